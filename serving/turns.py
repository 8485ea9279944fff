"""Scheduler of the compute threads: one admission control and one thread budget for all models.

Jobs wait in lanes, one for each model, which take turns. A free thread takes the first job of the next lane,
and with it the jobs that can be computed in the same batch. An idle thread never waits to fill a batch: a
batch consists of the jobs that arrived while all threads were busy.

A request is refused if it could not be answered by its deadline, by the measured cost of the waiting jobs.

The objects of a request form no reference cycles, so that they are freed by reference counting as soon as the
answer is sent: a request may hold 32 MB. `concurrent.futures` keeps a future's callbacks, and an exception
keeps the frames of its traceback; hence the weak reference in `submit`, and the names that are deleted where
an error is passed on.
"""

import asyncio
import math
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, Self, TypeVar, TypeVarTuple

from serving.context import HoldsUp, RequestContext, client_left
from serving.timing import Phase
from zoo.errors import ZooError
from zoo.tasks.base import Generation

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SLICE_SECONDS = 0.02
"""Seconds that a batch or a generation may compute, at least one row, before other jobs have their turn."""
ALONE_SIZE = 16
"""Maximum size of work, as in `Turns.timed`, that is done inline for the only request in flight."""
REQUESTS = "requests"
"""Lane of work that does not run a graph, such as decoding images."""
NEWEST = 0.1
"""Weight of the newest measurement in a moving average."""


class Overloaded(ZooError):
    """The request is refused before it is computed, for lack of time, queue space or memory."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        """`retry_after` is the number of seconds after which the request would probably be accepted."""
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))


class DeadlineExceeded(ZooError):
    """The deadline passed before the answer was ready."""


class ClientLeft(ZooError):
    """Nobody waits for the answer any more."""


class Pace:
    """Moving average of the seconds that one unit of work takes. Any thread may read and update it."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def note(self, seconds: float, units: float = 1.0) -> None:
        """Adds a measurement of `seconds` for `units` units of work."""
        self.seconds += NEWEST * (seconds / units - self.seconds)


class Job(Generic[T]):
    """Work for a thread, and the future of its result. A cancelled or late job never begins."""

    def __init__(
        self, work: Callable[[], T], context: RequestContext, pace: Pace | None = None, units: float = 1.0
    ) -> None:
        """Expects `units` units of `pace` seconds each; without a pace, a duration of SLICE_SECONDS."""
        self.future: Future[T] = Future()
        self.context = context
        self.leads = False
        """True if the job is the first of a batch that a thread has taken."""
        self.seconds = SLICE_SECONDS if pace is None else pace.seconds * units
        """Expected duration in seconds."""
        self._work = work
        self._pace, self._units = pace, units
        self._submitted = time.monotonic_ns()

    def admits(self, job: Self, beside: Sequence[Self]) -> bool:
        """Returns True if another job of the lane may join the batch `beside`, whose first job this is."""
        return False

    def complete(self, beside: Sequence[Self]) -> bool:
        """Returns True if the batch `beside` can admit no more jobs."""
        return True

    def execute(self, jobs: Sequence[Self]) -> None:
        """Computes a batch of jobs, of which this is the first, and sets their results."""
        begun = time.monotonic()
        try:
            result = self._work()
        except Exception as error:  # any error is passed on to the caller that waits
            self.future.set_exception(error)
        else:
            if self._pace is not None:
                self._pace.note(time.monotonic() - begun, self._units)
            self.future.set_result(result)
        finally:
            del self, jobs  # see the module's docstring

    def begins(self) -> bool:
        """Marks the job as running; returns False if it was cancelled or its deadline is past."""
        if not self.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() >= self.context.deadline:
            self.future.set_exception(too_late())
            return False
        self.context.timing.queue += time.monotonic_ns() - self._submitted
        return True


class Lane:
    """Queue of jobs for one model, in order of arrival."""

    __slots__ = ("jobs", "seconds")

    def __init__(self) -> None:
        self.jobs: dict[Job[Any], None] = {}
        self.seconds = 0.0
        """Expected duration of all jobs in the lane, in seconds."""

    def add(self, job: Job[Any]) -> None:
        """Appends a job to the lane."""
        self.jobs[job] = None
        self.seconds += job.seconds

    def remove(self, job: Job[Any]) -> None:
        """Removes a job, which must be in the lane."""
        del self.jobs[job]
        self.seconds = self.seconds - job.seconds if self.jobs else 0.0  # avoids a sum of rounding errors


class Turns:
    """Fixed pool of threads, and the lanes of jobs that wait for them."""

    def __init__(self, threads: int, places: int) -> None:
        self.places = places
        """Maximum number of jobs that wait for a thread."""
        self.threads = threads
        """Number of jobs or batches that are computed in parallel."""
        self.alone: Callable[[], bool] = lambda: False
        """Returns True if only one request is in flight, so that no other can be delayed. Set by the
        application, which counts requests."""
        self._busy = 0
        self._begun: dict[int, float] = {}
        """Start time of each busy thread's job by thread id, on `time.monotonic()`."""
        self._waiting = 0
        self._lanes: OrderedDict[Hashable, Lane] = OrderedDict()
        self._paces: dict[Phase, Pace] = {}
        self._lock = threading.RLock()
        # The pool's own queue only holds one call of `_turn` for each job.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")

    def submit(self, lane: Hashable, job: Job[Any], *, admitted: bool = False, seconds: float = 0.0) -> None:
        """Queues a job in a lane; always accepts it if its request was `admitted` before.

        The whole request is expected to take `seconds`, or as long as the job if that is more. Raises
        `Overloaded` if it could not be done by its deadline, if the queue is full, or if the lane would have
        more than half of the places that are free without it.
        """
        with self._lock:
            if not admitted:
                self._require_place(lane, job, max(seconds, job.seconds))
            self._pool.submit(self._turn)
            self._lanes.setdefault(lane, Lane()).add(job)
            self._waiting += 1
        waiting = weakref.ref(job)  # the lane holds the job while it waits, and the thread while it runs
        job.future.add_done_callback(lambda future: self._done(lane, waiting(), future))

    async def offload(
        self,
        work: Callable[[], T],
        context: RequestContext,
        phase: Phase = "decode",
        *,
        admitted: bool = False,
    ) -> T:
        """Runs work that would block the event loop in a thread, and returns its result.

        Raises `Overloaded` as `submit` does, unless the request was `admitted` before, `DeadlineExceeded`
        past the deadline, and `ClientLeft` if the client has gone. Work that has begun by then keeps its
        thread until it is done, so that late answers cannot pile up.
        """
        pace = self._paces.setdefault(phase, Pace(0.0))
        job = Job(work, context, pace)
        self.submit(REQUESTS, job, admitted=admitted)
        return await result_of(job)

    async def timed(
        self, phase: Phase, size: float, context: RequestContext, work: Callable[[*Ts], T], *args: *Ts
    ) -> T:
        """Runs the work of a phase and returns its result: inline if it is small, otherwise by `offload`.

        Work of `size` 1 takes about a millisecond, the time for which it may delay other requests.
        """
        timing = context.timing
        if size <= (ALONE_SIZE if self.alone() else 1):
            begun, context.inline = time.monotonic_ns(), True
            try:
                return work(*args)
            except HoldsUp:
                pass  # it is more work than its size suggested
            finally:
                context.inline = False
                timing.add(phase, time.monotonic_ns() - begun)
        job = partial(timing.measured, phase, partial(work, *args))
        return await self.offload(job, context, phase, admitted=phase == "encode")

    def widen(self, places: int) -> None:
        """Adds `places` (may be negative) to the number of jobs that may wait."""
        with self._lock:
            self.places += places

    @property
    def idle(self) -> bool:
        """True if a thread is free and no job waits for it."""
        return self._busy + self._waiting < self.threads

    def stuck(self, seconds: float) -> bool:
        """Returns True if every thread has been busy with one job for longer than `seconds`."""
        begun = list(self._begun.values())
        return len(begun) == self.threads and time.monotonic() - max(begun) > seconds

    @property
    def backlog_seconds(self) -> float:
        """Expected seconds until all waiting jobs are computed."""
        with self._lock:
            return sum(lane.seconds for lane in self._lanes.values()) / self.threads

    def close(self) -> None:
        """Stops the threads after their current jobs, and cancels the waiting ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for job in [job for lane in list(self._lanes.values()) for job in lane.jobs]:
            job.future.cancel()

    def _require_place(self, lane: Hashable, job: Job[Any], seconds: float) -> None:
        idle = self.threads - self._busy
        free = self.places + idle - self._waiting
        waiting = self._lanes.get(lane)
        if free <= 0 or (waiting is not None and len(waiting.jobs) >= free + idle):
            raise Overloaded("the queue is full; try again later", self.backlog_seconds)
        if idle > self._waiting:
            return  # no job is before it, and running it corrects a pace that is too slow
        own = seconds + (0.0 if waiting is None else waiting.seconds)
        # The lanes take turns of about the same length.
        others = sum(min(other.seconds, own) for other in self._lanes.values() if other is not waiting)
        expected = (own + others) / self.threads
        if (late := time.monotonic() + expected - job.context.deadline) > 0:
            raise Overloaded("too many requests wait to answer this one in time; try again later", late)

    def _turn(self) -> None:
        with self._lock:
            jobs = self._next()
        if not jobs:
            return
        self._begun[threading.get_ident()] = time.monotonic()
        try:
            jobs[0].execute(jobs)
        finally:
            del self._begun[threading.get_ident()]
            del jobs  # see the module's docstring

    def _next(self) -> list[Job[Any]]:
        """Takes the next jobs to run; empty if they were batched with others or cancelled."""
        while self._lanes:
            key, lane = self._lanes.popitem(last=False)
            jobs: list[Job[Any]] = []
            for job in list(lane.jobs):
                if jobs and not jobs[0].admits(job, jobs):
                    continue
                lane.remove(job)
                self._waiting -= 1
                if job.begins():
                    jobs.append(job)
                    if jobs[0].complete(jobs):
                        break
            if lane.jobs:
                self._lanes[key] = lane
            if jobs:
                jobs[0].leads = True
                self._busy += 1
                return jobs
        return []

    def _done(self, key: Hashable, job: Job[Any] | None, future: "Future[Any]") -> None:
        """Frees the thread before the result is delivered, or the place of a cancelled job."""
        if job is None:
            return  # the job was freed, so neither a thread nor a lane holds it
        with self._lock:
            lane = self._lanes.get(key)
            if job.leads:
                self._busy -= 1
            elif future.cancelled() and lane is not None and job in lane.jobs:
                lane.remove(job)
                self._waiting -= 1
                if not lane.jobs:
                    del self._lanes[key]


async def result_of(job: Job[T]) -> T:
    """Returns the result of a job. If nobody waits for it any more, cancels it unless it has begun."""
    return await awaited(asyncio.wrap_future(job.future), job.context)


async def awaited(waiting: "asyncio.Future[T]", context: RequestContext) -> T:
    """Returns the result of a future, which is cancelled if nobody waits for it any more.

    Raises `DeadlineExceeded` past the deadline, and `ClientLeft` if the client has gone.
    """
    left = None if context.receive is None else asyncio.ensure_future(client_left(context.receive))
    if left is not None:
        left.add_done_callback(lambda _: waiting.cancel())
    try:
        async with asyncio.timeout(max(0.0, context.deadline - time.monotonic())):
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
    """Returns the text generated in one slice of time, and True if the generation has ended."""
    written, until = [], time.monotonic() + SLICE_SECONDS
    for piece in generation:
        written.append(piece)
        if time.monotonic() >= until:
            return "".join(written), False
    return "".join(written), True


def too_late() -> DeadlineExceeded:
    """Returns the error for a request past its deadline."""
    return DeadlineExceeded("the request was not answered within its deadline")
