"""Micro-batching: rows of several requests for one model, computed in one run of its graph."""

import time
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from serving.timing import Timing
from serving.turns import Job
from zoo.tasks import Arrays
from zoo.tasks.base import Run


class Part(Job[Arrays]):
    """Rows of a request, as many as are computed at once, which those of other requests may join.

    Those may whose inputs are alike in everything but the number of rows, lengths included.
    """

    def __init__(self, run: Run, inputs: Arrays, most: int, deadline: float, timing: Timing) -> None:
        """All parts of a lane have the same run, and `most` rows at once."""
        super().__init__(lambda: timing.counted(run)(inputs), deadline, timing)
        self._run = run
        self._inputs = inputs
        self._rows = len(next(iter(inputs.values())))
        self._most = most
        self._form = {(name, array.dtype, array.shape[1:]) for name, array in inputs.items()}

    def admits(self, job: Self, beside: Sequence[Self]) -> bool:
        return job._form == self._form and job._rows + sum(part._rows for part in beside) <= self._most

    def execute(self, jobs: Sequence[Self]) -> None:
        """One run, counted once; where it fails, each part alone, so that only the culprit's request does."""
        begun = time.monotonic_ns()
        try:
            outputs = self.timing.counted(self._run)(_joined([part._inputs for part in jobs]))
            shares = list(_split(outputs, [part._rows for part in jobs]))
        except Exception as error:  # whatever it is, the one who waits is told
            if len(jobs) == 1:
                self.future.set_exception(error)
                return
            for part in jobs:
                part.execute([part])
            return
        took = time.monotonic_ns() - begun
        for part, share in zip(jobs, shares, strict=True):
            part.timing.compute += took
            part.future.set_result(share)


def _joined(inputs: Sequence[Arrays]) -> Arrays:
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}


def _split(outputs: Arrays, rows: Sequence[int]) -> Iterator[Arrays]:
    end = 0
    for count in rows:
        start, end = end, end + count
        yield {name: array[start:end] for name, array in outputs.items()}
