"""What answering one request took: nanoseconds of each phase, and how much was computed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from zoo.tasks import Arrays
from zoo.tasks.base import Run

T = TypeVar("T")

Phase = Literal["queue", "decode", "compute", "encode"]
"""Waiting for a thread; request to graph inputs; the graph; graph outputs to answer."""


@dataclass(slots=True)
class Timing:
    """One request's time, on `time.monotonic_ns()`, and the version that it was spent on."""

    model: str = ""
    """Registered model; empty until the request named one that is served."""
    version: str = ""
    queue: int = 0
    decode: int = 0
    compute: int = 0
    encode: int = 0
    rows: int = 0
    """Examples computed; of a kind that writes, texts."""
    batches: dict[int, int] = field(default_factory=dict)
    """How often a graph was executed, by batch size; of a run that several requests share, at the first."""

    def add(self, phase: Phase, nanoseconds: int) -> None:
        """Adds time to a phase."""
        setattr(self, phase, getattr(self, phase) + nanoseconds)

    def measured(self, phase: Phase, work: Callable[[], T]) -> T:
        """The result of work, its time added to a phase."""
        begun = time.monotonic_ns()
        try:
            return work()
        finally:
            self.add(phase, time.monotonic_ns() - begun)

    def include(self, part: "Timing") -> None:
        """Adds what a part of the request took."""
        self.queue += part.queue
        self.compute += part.compute
        self.rows += part.rows
        for size, count in part.batches.items():
            self.batches[size] = self.batches.get(size, 0) + count

    def count(self, inputs: Arrays) -> None:
        """Counts an execution of a graph."""
        size = len(next(iter(inputs.values())))
        self.batches[size] = self.batches.get(size, 0) + 1

    def counted(self, run: Run) -> Run:
        """The run, its executions counted."""

        def counting(inputs: Arrays) -> Arrays:
            self.count(inputs)
            return run(inputs)

        return counting
