"""The threads that compute and what waits for them: one admission and one thread budget over all models.

Work waits in lanes, one a model, which take turns; a thread that is free takes what is first in the next
lane, and with it what can be computed together. Nothing is waited for while a thread is idle: a batch is made
of what came while all were busy.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, Self, TypeVar

from serving.timing import Timing
from zoo.errors import ZooError
from zoo.tasks.base import Generation

T = TypeVar("T")

SLICE_SECONDS = 0.02
"""How long a batch or a generation computes until other work has its turn, one row at least."""


class Overloaded(ZooError):
    """Every core is busy and the queue is full."""


class DeadlineExceeded(ZooError):
    """The answer would come later than the request allows."""


class ClientLeft(ZooError):
    """Nobody waits for the answer any more."""


class Job(Generic[T]):
    """Work for a thread, and its result to come. Cancelled or past its deadline, it never begins."""

    def __init__(self, work: Callable[[], T], deadline: float, timing: Timing) -> None:
        """`deadline` on `time.monotonic()`; what it waits is added to `timing`."""
        self.future: Future[T] = Future()
        self.timing = timing
        self.leads = False
        """Whether a thread is busy with it, and with those that it leads."""
        self._work = work
        self._deadline = deadline
        self._submitted = time.monotonic_ns()

    def admits(self, job: Self, beside: Sequence[Self]) -> bool:
        """Whether another job of its lane may be computed with those beside it, of which it is the first."""
        return False

    def execute(self, jobs: Sequence[Self]) -> None:
        """Computes jobs together, of which it is the first."""
        try:
            result = self._work()
        except Exception as error:  # whatever it is, the one who waits is told
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def begins(self) -> bool:
        """Whether somebody still waits for it, and its deadline is to come."""
        if not self.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() >= self._deadline:
            self.future.set_exception(too_late())
            return False
        self.timing.queue += time.monotonic_ns() - self._submitted
        return True


class Turns:
    """So many threads, and the lanes before them."""

    def __init__(self, threads: int, places: int) -> None:
        self.places = places
        """Jobs that may wait for a thread."""
        self._threads = threads
        self._busy = 0
        self._waiting = 0
        self._lanes: OrderedDict[Hashable, list[Job[Any]]] = OrderedDict()
        self._lock = threading.RLock()
        # What the pool itself queues is no more than a call for each job to look into the lanes.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")

    def submit(self, lane: Hashable, job: Job[Any], *, admitted: bool = False) -> None:
        """Has a job wait in a lane; one of a request that was admitted already always finds a place.

        `Overloaded` where none is left, or the lane has so many that others would find none: of the places
        that are free one lane may take half.
        """
        with self._lock:
            if not admitted:
                self._require_place(lane)
            self._pool.submit(self._turn)
            self._lanes.setdefault(lane, []).append(job)
            self._waiting += 1
        job.future.add_done_callback(partial(self._done, lane, job))

    def widen(self, places: int) -> None:
        """Lets so many jobs more, or fewer, wait."""
        with self._lock:
            self.places += places

    @property
    def idle(self) -> bool:
        """Whether a thread is free, and nothing waits for it."""
        return self._busy + self._waiting < self._threads

    def close(self) -> None:
        """Ends the threads once they are done; what waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for job in [job for lane in list(self._lanes.values()) for job in lane]:
            job.future.cancel()

    def _require_place(self, lane: Hashable) -> None:
        idle = self._threads - self._busy
        free = self.places + idle - self._waiting
        if free <= 0 or len(self._lanes.get(lane, ())) >= free + idle:
            raise Overloaded("every core is busy and the queue is full; try again later")

    def _turn(self) -> None:
        with self._lock:
            jobs = self._next()
        if jobs:
            jobs[0].execute(jobs)

    def _next(self) -> list[Job[Any]]:
        """What is to be computed now; nothing where what called for it was taken along, or has gone."""
        while self._lanes:
            lane, waiting = self._lanes.popitem(last=False)
            jobs: list[Job[Any]] = []
            rest: list[Job[Any]] = []
            for job in waiting:
                if jobs and not jobs[0].admits(job, jobs):
                    rest.append(job)
                elif job.begins():
                    jobs.append(job)
            self._waiting -= len(waiting) - len(rest)
            if rest:
                self._lanes[lane] = rest
            if jobs:
                jobs[0].leads = True
                self._busy += 1
                return jobs
        return []

    def _done(self, lane: Hashable, job: Job[Any], future: "Future[Any]") -> None:
        """Frees the thread before anybody learns of the result, or the place of a job that was cancelled."""
        with self._lock:
            waiting = self._lanes.get(lane, [])
            if job.leads:
                self._busy -= 1
            elif future.cancelled() and job in waiting:
                waiting.remove(job)
                self._waiting -= 1
                if not waiting:
                    del self._lanes[lane]


async def awaited(waiting: "asyncio.Future[T]", deadline: float, timing: Timing) -> T:
    """What a future comes to; it is cancelled where nobody waits for it any more.

    `DeadlineExceeded` past the deadline, `ClientLeft` where the timing's client has gone.
    """
    left = None if timing.client_left is None else asyncio.ensure_future(timing.client_left())
    if left is not None:
        left.add_done_callback(lambda _: waiting.cancel())
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await waiting
    except TimeoutError:
        raise too_late() from None
    except asyncio.CancelledError:
        if left is not None and left.done() and not left.cancelled():
            raise ClientLeft("the client has gone") from None
        raise
    finally:
        if left is not None:
            left.cancel()


def a_slice(generation: Generation) -> tuple[str, bool]:
    """What is written in a slice of time, and whether that was the end."""
    written, until = [], time.monotonic() + SLICE_SECONDS
    for piece in generation:
        written.append(piece)
        if time.monotonic() >= until:
            return "".join(written), False
    return "".join(written), True


def too_late() -> DeadlineExceeded:
    """The error of whatever is past its deadline."""
    return DeadlineExceeded("the request was not answered within its deadline")
