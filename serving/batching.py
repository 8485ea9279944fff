"""Micro-batching: computes the rows of several requests for one model in one run of its graph."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from serving.context import RequestContext
from serving.timing import Timing
from serving.turns import Job, Pace
from zoo.tasks import Arrays
from zoo.tasks.base import Run

NANOSECONDS = 1e9  # in a second


class Part(Job[Arrays]):
    """Rows of one request that are computed in one run, possibly together with rows of other requests.

    Rows can share a run if their inputs have the same names, types and shapes apart from the number of rows.
    """

    def __init__(
        self,
        run: Run,
        inputs: Arrays,
        most: int,
        context: RequestContext,
        pace: Pace,
        row_units: float = 1.0,
    ) -> None:
        """Computes at most `most` rows in one run. Each row counts as `row_units` units of the `pace`.

        Parts of one lane with the same input shapes have the same run, `most`, `pace` and `row_units`.
        """
        self._rows = len(next(iter(inputs.values())))
        super().__init__(partial(run, inputs), context, pace, self._rows * row_units)
        self._run = run
        self._inputs = inputs
        self._most = most
        self._form = {(name, array.dtype, array.shape[1:]) for name, array in inputs.items()}

    def admits(self, job: Self, beside: Sequence[Self]) -> bool:
        return job._form == self._form and job._rows + sum(part._rows for part in beside) <= self._most

    def complete(self, beside: Sequence[Self]) -> bool:
        return sum(part._rows for part in beside) >= self._most

    def execute(self, jobs: Sequence[Self]) -> None:
        """Runs the jobs as one batch, counted once; on an error each alone, so that only the faulty fail."""
        try:
            begun = time.monotonic_ns()
            outputs = self.context.timing.counted(self._run)(_joined([part._inputs for part in jobs]))
            took = time.monotonic_ns() - begun
            rows = [part._rows for part in jobs]
            if self._pace is not None:
                self._pace.note(took / NANOSECONDS, sum(part._units for part in jobs))
            for part, share in zip(jobs, list(_split(outputs, rows)), strict=True):
                part.context.timing.compute += took
                part.future.set_result(share)
        except Exception as error:  # any error is passed on to the caller that waits
            if len(jobs) == 1:
                self.future.set_exception(error)
                return
            for part in jobs:
                part.execute([part])
        finally:
            part = None  # type: ignore[assignment]
            del self, jobs, part  # see `serving.turns`


class Moment:
    """Batches small requests for one model that arrive in one event loop iteration, in a run on the loop.

    The loop reads all connections that have data before it runs the callbacks scheduled with `call_soon`.
    """

    def __init__(self, run: Run, most: int) -> None:
        """Computes at most `most` rows in one run."""
        self._run, self._most = run, most
        self._waiting: list[_Small] = []

    def run_alone(self, inputs: Arrays, timing: Timing) -> Arrays:
        """Returns the outputs of the only request in flight, without waiting for others."""
        begun = time.monotonic_ns()
        timing.count(inputs)
        outputs = self._run(inputs)
        timing.compute += time.monotonic_ns() - begun
        return outputs

    def run(self, inputs: Arrays, timing: Timing) -> "asyncio.Future[Arrays]":
        """Returns the outputs for the inputs. If a shared run fails, only the faulty request fails."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._compute_all)
        outputs: asyncio.Future[Arrays] = loop.create_future()
        self._waiting.append(_Small(inputs, len(next(iter(inputs.values()))), timing, outputs))
        return outputs

    def _compute_all(self) -> None:
        waiting = [small for small in self._waiting if not small.outputs.done()]
        self._waiting = []
        while waiting:
            rows = 0
            group: list[_Small] = []
            others: list[_Small] = []
            for small in waiting:
                joins = not group or (small.alike(group[0]) and rows + small.rows <= self._most)
                (group if joins else others).append(small)
                rows += small.rows if joins else 0
            self._compute(group)
            waiting = others

    def _compute(self, group: "Sequence[_Small]") -> None:
        begun = time.monotonic_ns()
        try:
            outputs = group[0].timing.counted(self._run)(_joined([small.inputs for small in group]))
            shares = [outputs] if len(group) == 1 else _split(outputs, [small.rows for small in group])
            took = time.monotonic_ns() - begun
            for small, share in zip(group, shares, strict=True):
                small.timing.compute += took
                small.outputs.set_result(share)
        except Exception as error:  # any error is passed on to the caller that waits
            if len(group) == 1:
                group[0].outputs.set_exception(error)
                return
            for small in group:
                self._compute([small])
        finally:
            small = None  # type: ignore[assignment]
            del group, small  # see `serving.turns`


class _Small(NamedTuple):
    """Small request that waits for the next run."""

    inputs: Arrays
    rows: int
    timing: Timing
    outputs: "asyncio.Future[Arrays]"

    def alike(self, other: "_Small") -> bool:
        """Returns True if the inputs differ only in the number of rows."""
        return all(
            array.shape[1:] == other.inputs[name].shape[1:] and array.dtype == other.inputs[name].dtype
            for name, array in self.inputs.items()
        )


def _joined(inputs: Sequence[Arrays]) -> Arrays:
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}


def _split(outputs: Arrays, rows: Sequence[int]) -> Iterator[Arrays]:
    end = 0
    for count in rows:
        start, end = end, end + count
        yield {name: array[start:end] for name, array in outputs.items()}
