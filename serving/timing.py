"""Timing of one request: the nanoseconds of each phase, and the number of rows and batches computed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from zoo.tasks import Arrays
from zoo.tasks.base import Run

T = TypeVar("T")

Phase = Literal["queue", "decode", "compute", "encode"]
"""Phases: waiting for a thread; request to graph inputs; running the graph; graph outputs to answer."""


@dataclass(slots=True)
class Timing:
    """Times of one request in nanoseconds, on `time.monotonic_ns()`, and the version that answered it."""

    model: str = ""
    """Registered model; empty until the request has named a served one."""
    version: str = ""
    queue: int = 0
    decode: int = 0
    compute: int = 0
    encode: int = 0
    rows: int = 0
    """Number of examples computed, or of texts for a model that generates text."""
    batches: dict[int, int] = field(default_factory=dict)
    """Number of graph runs by batch size; a run shared by several requests counts for the first one."""

    def add(self, phase: Phase, nanoseconds: int) -> None:
        """Adds time to a phase."""
        setattr(self, phase, getattr(self, phase) + nanoseconds)

    def measured(self, phase: Phase, work: Callable[[], T]) -> T:
        """Does the work, adds its time to a phase, and returns its result."""
        begun = time.monotonic_ns()
        try:
            return work()
        finally:
            self.add(phase, time.monotonic_ns() - begun)

    def include(self, part: "Timing") -> None:
        """Adds the times, rows and batches of a part of the request."""
        self.queue += part.queue
        self.compute += part.compute
        self.rows += part.rows
        for size, count in part.batches.items():
            self.batches[size] = self.batches.get(size, 0) + count

    def count(self, inputs: Arrays) -> None:
        """Counts a run of a graph."""
        size = len(next(iter(inputs.values())))
        self.batches[size] = self.batches.get(size, 0) + 1

    def counted(self, run: Run) -> Run:
        """Wraps a run function so that each of its calls is counted."""

        def counting(inputs: Arrays) -> Arrays:
            self.count(inputs)
            return run(inputs)

        return counting
