"""Batching of sequence-to-sequence requests: those that come while the model is busy share a batch."""

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

from serving.context import RequestContext
from serving.timing import Timing
from serving.turns import Job, Overloaded, Pace, Turns, a_slice, awaited, too_late
from zoo.tasks.base import Run
from zoo.tasks.sequence_to_sequence import Transformation

TOGETHER = 64
"""Maximum number of texts in a group, so that none has to wait for the end of many others."""
NANOSECONDS = 1e9  # in a second


@dataclass(eq=False)
class Request:
    """Texts to answer, and the future that is set when they are answered."""

    transformation: Transformation
    context: RequestContext
    answered: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    came: int = field(default_factory=time.monotonic_ns)


class Gathering:
    """Requests for one model, batched in groups; used by the event loop only.

    At most `groups` groups are answered at the same time, each as one batch. The other requests wait, and
    those with the same decoding options form the next group. A group is computed in slices of time, see
    `serving.turns`.
    """

    def __init__(self, run: Run, turns: Turns, lane: Hashable, groups: int, queue: int) -> None:
        """Answers at most `groups` groups at the same time; at most `queue` requests wait."""
        self._run, self._turns, self._lane, self._groups, self._queue = run, turns, lane, groups, queue
        self._pace = Pace(0.0)
        """Average seconds per text."""
        self._waiting: list[Request] = []
        self._answering: set[asyncio.Task[None]] = set()

    async def finish(self, transformation: Transformation, context: RequestContext) -> None:
        """Returns once all texts of a request are answered.

        Raises `Overloaded` if the waiting requests would delay it past its deadline or fill the queue,
        `DeadlineExceeded` past the deadline, and `ClientLeft` if the client has gone. A group is abandoned
        once nobody waits for any of its requests.
        """
        if time.monotonic() >= context.deadline:
            raise too_late()
        self._require_time(transformation, context)
        request = Request(transformation, context)
        self._waiting.append(request)
        self._begin()
        await awaited(request.answered, context)

    def _require_time(self, transformation: Transformation, context: RequestContext) -> None:
        if len(self._answering) < self._groups:
            return
        waiting = [request for request in self._waiting if not request.answered.done()]
        texts = transformation.rows + sum(request.transformation.rows for request in waiting)
        expected = self._pace.seconds * texts / self._groups
        late = time.monotonic() + expected - context.deadline
        if late > 0 or len(waiting) >= self._queue:
            raise Overloaded("too many texts wait to be answered; try again later", max(late, expected))

    def _begin(self) -> None:
        self._waiting = [request for request in self._waiting if not request.answered.done()]
        while self._waiting and len(self._answering) < self._groups:
            answering = asyncio.create_task(self._answer(self._next_group()))
            self._answering.add(answering)
            answering.add_done_callback(self._ended)

    def _ended(self, answering: "asyncio.Task[None]") -> None:
        self._answering.remove(answering)
        if not answering.cancelled():  # cancelled when the event loop ends
            self._begin()

    def _next_group(self) -> list[Request]:
        """Takes the request that has waited longest, and those that can be answered with it."""
        first, *others = self._waiting
        group, texts = [first], first.transformation.rows
        for request in others:
            more = request.transformation.rows
            if _alike(request.transformation, first.transformation) and texts + more <= TOGETHER:
                group.append(request)
                texts += more
        taken = set(group)
        self._waiting = [request for request in self._waiting if request not in taken]
        return group

    async def _answer(self, group: Sequence[Request]) -> None:
        """Answers a group; on an error, each request alone, so that only the faulty one fails."""
        begun, shared, ended = time.monotonic_ns(), Timing(), False
        context = RequestContext(timing=shared)
        parts = [request.transformation for request in group]
        try:
            joint = Transformation.together(parts, shared.counted(self._run))
            while not ended and not all(request.answered.done() for request in group):
                job = Job(partial(shared.measured, "compute", partial(a_slice, joint)), context)
                self._turns.submit(self._lane, job, admitted=True)
                _, ended = await asyncio.wrap_future(job.future)
            joint.share(parts)
            if ended:
                self._pace.note((time.monotonic_ns() - begun) / NANOSECONDS, joint.rows)
        except Exception as error:  # any error is passed on to those who wait
            if len(group) > 1:
                for request in group:
                    await self._answer([request])
            elif not group[0].answered.done():
                group[0].answered.set_exception(error)
        else:
            for request in group:
                if not request.answered.done():
                    timing = request.context.timing
                    timing.queue += begun - request.came
                    timing.include(shared)
                    shared.batches = {}  # counted once
                    request.answered.set_result(None)
        finally:
            group = parts = joint = request = None  # type: ignore[assignment]  # see `serving.turns`


def _alike(one: Transformation, other: Transformation) -> bool:
    return (one.beams, one.longest) == (other.beams, other.longest)
