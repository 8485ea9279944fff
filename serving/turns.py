"""The threads that compute and what waits for them: one admission and one thread budget over all models.

Work waits in lanes, one for each model, which take turns; a thread that is free takes what is first in the
next lane, and with it what can be computed together. Nothing is waited for while a thread is idle: a batch is
made of what came while all were busy.

A request is refused if, by the measured cost of what waits, it could not be answered by its deadline.

Nothing that a request makes refers back to what refers to it, so that all of it is freed by reference counts
as soon as the answer is sent: a request may hold 32 MB. `concurrent.futures` keeps a future's callbacks, and
an exception keeps the frames of its traceback; hence the weak reference in `submit` and the names that are
deleted where an error is handed over.
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
"""How long a batch or a generation computes until other work has its turn, one row at least."""
ALONE_SIZE = 16
"""Size of work, as of `Turns.timed`, that is done at once for a request that is alone."""
REQUESTS = "requests"
"""Lane of work that is not a graph's, such as decoding images."""
NEWEST = 0.1
"""Weight of the newest measurement in a moving average."""


class Overloaded(ZooError):
    """The request is refused before anything is computed: there is no time, no place or no memory for it."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        """`retry_after` seconds the same request would probably be accepted."""
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))


class DeadlineExceeded(ZooError):
    """The deadline passed before the answer was there."""


class ClientLeft(ZooError):
    """Nobody waits for the answer any more."""


class Pace:
    """Moving average of the seconds that one unit of work takes. Any thread may read and update it."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def note(self, seconds: float, units: float = 1.0) -> None:
        """Includes a measurement of so many units."""
        self.seconds += NEWEST * (seconds / units - self.seconds)


class Job(Generic[T]):
    """Work for a thread, and its future result. A job that is cancelled or late never begins."""

    def __init__(
        self, work: Callable[[], T], context: RequestContext, pace: Pace | None = None, units: float = 1.0
    ) -> None:
        """`units` of the work take `pace` seconds each; without a pace a slice of time is assumed."""
        self.future: Future[T] = Future()
        self.context = context
        self.leads = False
        """Whether a thread is busy with it, and with those that it leads."""
        self.seconds = SLICE_SECONDS if pace is None else pace.seconds * units
        """Expected duration."""
        self._work = work
        self._pace, self._units = pace, units
        self._submitted = time.monotonic_ns()

    def admits(self, job: Self, beside: Sequence[Self]) -> bool:
        """Whether another job of its lane may be computed with those beside it, of which it is the first."""
        return False

    def complete(self, beside: Sequence[Self]) -> bool:
        """Returns True if no other job can be admitted any more."""
        return True

    def execute(self, jobs: Sequence[Self]) -> None:
        """Computes jobs together, of which it is the first."""
        begun = time.monotonic()
        try:
            result = self._work()
        except Exception as error:  # whatever it is, the one who waits is told
            self.future.set_exception(error)
        else:
            if self._pace is not None:
                self._pace.note(time.monotonic() - begun, self._units)
            self.future.set_result(result)
        finally:
            del self, jobs  # see the module's docstring

    def begins(self) -> bool:
        """Whether somebody still waits for it, and its deadline is to come."""
        if not self.future.set_running_or_notify_cancel():
            return False
        if time.monotonic() >= self.context.deadline:
            self.future.set_exception(too_late())
            return False
        self.context.timing.queue += time.monotonic_ns() - self._submitted
        return True


class Lane:
    """Jobs that wait for one model, in the order in which they came."""

    __slots__ = ("jobs", "seconds")

    def __init__(self) -> None:
        self.jobs: dict[Job[Any], None] = {}
        self.seconds = 0.0
        """Expected duration of all of them."""

    def add(self, job: Job[Any]) -> None:
        """Appends a job."""
        self.jobs[job] = None
        self.seconds += job.seconds

    def remove(self, job: Job[Any]) -> None:
        """Removes a job, which must be in it."""
        del self.jobs[job]
        self.seconds = self.seconds - job.seconds if self.jobs else 0.0  # no sum of rounding errors


class Turns:
    """A fixed number of threads, and the lanes before them."""

    def __init__(self, threads: int, places: int) -> None:
        self.places = places
        """Jobs that may wait for a thread."""
        self.threads = threads
        """Jobs that are computed side by side."""
        self.alone: Callable[[], bool] = lambda: False
        """Tells whether a single request is being answered, so that no other can be held up. The application,
        which counts requests, sets it."""
        self._busy = 0
        self._begun: dict[int, float] = {}
        """When each busy thread began its job, on `time.monotonic()`, by the thread's number."""
        self._waiting = 0
        self._lanes: OrderedDict[Hashable, Lane] = OrderedDict()
        self._paces: dict[Phase, Pace] = {}
        self._lock = threading.RLock()
        # What the pool itself queues is no more than a call for each job to look into the lanes.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")

    def submit(self, lane: Hashable, job: Job[Any], *, admitted: bool = False, seconds: float = 0.0) -> None:
        """Has a job wait in a lane; one of a request that was admitted already is always accepted.

        The whole request is expected to take `seconds`, at least as long as the job. `Overloaded` if it could
        not be done by its deadline, or if the lane has so many jobs that others would find no place: of the
        places that are free one lane may take half.
        """
        with self._lock:
            if not admitted:
                self._require_place(lane, job, max(seconds, job.seconds))
            self._pool.submit(self._turn)
            self._lanes.setdefault(lane, Lane()).add(job)
            self._waiting += 1
        waiting = weakref.ref(job)  # the lane holds it while it waits, and the thread while it is computed
        job.future.add_done_callback(lambda future: self._done(lane, waiting(), future))

    async def offload(
        self,
        work: Callable[[], T],
        context: RequestContext,
        phase: Phase = "decode",
        *,
        admitted: bool = False,
    ) -> T:
        """The result of work that would hold up the event loop.

        `Overloaded` as of `submit`, unless the request was `admitted` before; `DeadlineExceeded` past the
        deadline, `ClientLeft` if the client has gone. Work that has begun by then keeps its thread until it
        is done, so that late answers cannot pile up.
        """
        pace = self._paces.setdefault(phase, Pace(0.0))
        job = Job(work, context, pace)
        self.submit(REQUESTS, job, admitted=admitted)
        return await result_of(job)

    async def timed(
        self, phase: Phase, size: float, context: RequestContext, work: Callable[[*Ts], T], *args: *Ts
    ) -> T:
        """The result of work of a phase: done at once if it is small, and otherwise as by `offload`.

        Work of `size` 1 takes about a millisecond, which is how long it may delay other requests.
        """
        timing = context.timing
        if size <= (ALONE_SIZE if self.alone() else 1):
            begun, context.inline = time.monotonic_ns(), True
            try:
                return work(*args)
            except HoldsUp:
                pass  # it is larger than it seemed
            finally:
                context.inline = False
                timing.add(phase, time.monotonic_ns() - begun)
        job = partial(timing.measured, phase, partial(work, *args))
        return await self.offload(job, context, phase, admitted=phase == "encode")

    def widen(self, places: int) -> None:
        """Lets so many jobs more, or fewer, wait."""
        with self._lock:
            self.places += places

    @property
    def idle(self) -> bool:
        """Whether a thread is free, and nothing waits for it."""
        return self._busy + self._waiting < self.threads

    def stuck(self, seconds: float) -> bool:
        """Returns True if every thread has been busy with one job for longer than so many seconds."""
        begun = list(self._begun.values())
        return len(begun) == self.threads and time.monotonic() - max(begun) > seconds

    @property
    def backlog_seconds(self) -> float:
        """Expected time until everything that waits now has been computed."""
        with self._lock:
            return sum(lane.seconds for lane in self._lanes.values()) / self.threads

    def close(self) -> None:
        """Ends the threads once they are done; what waits is cancelled."""
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
            return  # nothing is before it; and once it is measured, a pace that is too slow is corrected
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
        """Frees the thread before anybody learns of the result, or the place of a job that was cancelled."""
        if job is None:
            return  # nothing holds it, so neither a thread nor a lane does
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
    """The result of a job, which is cancelled, unless it has begun, if nobody waits for it any more."""
    return await awaited(asyncio.wrap_future(job.future), job.context)


async def awaited(waiting: "asyncio.Future[T]", context: RequestContext) -> T:
    """The result of a future, which is cancelled if nobody waits for it any more.

    `DeadlineExceeded` past the deadline, `ClientLeft` if the client has gone.
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
