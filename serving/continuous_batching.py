"""Continuous batching: all texts that a language model is generating advance together, one token per run.

Texts join and leave the batch between two runs, so none waits for another to end. A long prompt is read in
parts, and the other texts get their tokens in between. The model computes in slices of time, after each of
which other models have their turn, see `serving.turns`. Source: Yu et al. (2022), "Orca: A Distributed
Serving System for Transformer-Based Generative Models", OSDI 2022.
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from serving.context import RequestContext, client_left
from serving.prefixes import Prefixes
from serving.readers import Reader
from serving.turns import SLICE_SECONDS, ClientLeft, Job, Overloaded, Pace, Turns, too_late
from zoo.decoder import Decoder
from zoo.errors import InvalidInput
from zoo.tasks.writing import Writing

READ_AT_ONCE = 64
"""Tokens of a prompt in one run: nearly as fast per token as longer runs, and others wait at most 0.1 s."""


@dataclass(eq=False)
class Text:
    """Text that is being generated, and the queue that its pieces are delivered to."""

    writing: Writing
    context: RequestContext
    loop: asyncio.AbstractEventLoop
    news: asyncio.Queue[str | Exception | None] = field(default_factory=asyncio.Queue)
    """Queue of pieces or an error; None marks the end."""
    joined: int = field(default_factory=time.monotonic_ns)
    slot: int | None = None
    seated: float = 0.0
    """Time when the text got its slot, on `time.monotonic()`."""
    late: bool = False
    """True from the deadline on: the thread that generates the text then ends it as it is."""
    gone: bool = False
    """True if nobody waits for the text any more."""
    piece: str = ""
    """Generated text that is not delivered yet."""
    end: Exception | None = None
    """Error that ended the text."""

    @property
    def ended(self) -> bool:
        """True if there is nothing more to compute."""
        return self.gone or self.end is not None or self.writing.progress.ended


class Room:
    """Texts that one model is generating or that wait for a slot."""

    def __init__(
        self, model: str, reader: Reader, slots: int, queue: int, turns: Turns, lane: Hashable
    ) -> None:
        """Generates up to `slots` texts at a time; up to `queue` more wait until one ends."""
        self.model = model
        self._reader, self._slots, self._queue = reader, slots, queue
        self._turns, self._lane = turns, lane
        self._prefixes = Prefixes(READ_AT_ONCE)
        self._lock = threading.Lock()
        self._texts: list[Text] = []
        """Texts in order of arrival; the first ones have the slots."""
        self._running = False
        self._pace = Pace(0.0)
        """Average seconds that a text keeps its slot."""

    async def pieces(self, writing: Writing, context: RequestContext) -> AsyncGenerator[str, None]:
        """Generates a text and yields its pieces.

        A text that has begun ends at the deadline as it is. Raises `Overloaded` if the waiting texts would
        delay it past its deadline or fill the queue, `DeadlineExceeded` past the deadline if nothing was
        generated, and `ClientLeft` if the client has gone. Nothing more is computed once the iterator is
        closed.
        """
        if time.monotonic() >= context.deadline:
            raise too_late()
        loop = asyncio.get_running_loop()
        text = Text(writing, context, loop)
        self._join(text)
        # Without a deadline there is no timer: an event loop's timer may only last some weeks.
        wait = context.deadline - time.monotonic()
        timer = None if math.isinf(wait) else loop.call_later(wait, _expire, text)
        left = None if context.receive is None else asyncio.ensure_future(client_left(context.receive))
        if left is not None:
            left.add_done_callback(lambda _: text.news.put_nowait(ClientLeft("the client has gone")))
        try:
            while (news := await text.news.get()) is not None:
                if isinstance(news, Exception):
                    raise news
                yield news
        finally:
            text.gone = True
            news = None  # see `serving.turns`
            if timer is not None:
                timer.cancel()
            if left is not None:
                left.cancel()

    @property
    def writing(self) -> int:
        """Number of texts that have a slot."""
        return min(self._slots, len(self._texts))

    def _join(self, text: Text) -> None:
        with self._lock:
            waiting = sum(not each.gone for each in self._texts) - self._slots
            if waiting >= 0:
                expected = self._pace.seconds * (waiting + 1) / self._slots
                late = time.monotonic() + expected - text.context.deadline
                if late > 0 or waiting >= self._queue:
                    message = "too many texts wait to be written; try again later"
                    raise Overloaded(message, max(late, self._pace.seconds / self._slots))
            self._texts.append(text)
            begins, self._running = not self._running, True
        if begins:
            self._turns.widen(1)  # the room adds the place in the queue that its slices use
            self._submit()

    def _submit(self) -> None:
        job = Job(self._compute, RequestContext())
        self._turns.submit(self._lane, job, admitted=True)
        job.future.add_done_callback(self._after)

    def _after(self, slice_: "Future[None]") -> None:
        """Submits the next slice, if any texts are left."""
        failure = None if slice_.cancelled() else slice_.exception()
        with self._lock:
            if isinstance(failure, Exception):  # an error outside a run: `_account` handles those of a run
                self._fail(failure)
            self._running = bool(self._texts) and not slice_.cancelled()
            goes_on = self._running
        if goes_on:
            self._submit()
        else:
            self._turns.widen(-1)

    def _fail(self, error: Exception) -> None:
        """Ends all texts with an error, so that none waits for slices that would fail again."""
        for text in self._texts:
            text.end = error
            _tell(text)
            if text.slot is not None:
                with suppress(Exception):  # this may be what is broken
                    self._reader.close(text.slot)
        self._texts = []

    def _compute(self) -> None:
        """Computes for one slice of time, and delivers the new pieces."""
        until = time.monotonic() + SLICE_SECONDS
        seated = self._seat()
        while seated:
            self._advance(seated)
            if time.monotonic() >= until:
                break
            seated = self._seat()
        for text in seated:
            _tell(text)

    def _seat(self) -> list[Text]:
        """Frees the slots of finished texts, admits waiting ones, and returns the texts that have a slot."""
        with self._lock:
            for text in self._texts:
                if text.late and not text.ended:
                    text.piece += text.writing.cut()
            ended = [text for text in self._texts if text.ended]
            self._texts = [text for text in self._texts if not text.ended]
            seated = self._texts[: self._slots]
        for text in ended:
            if text.slot is not None:
                self._reader.close(text.slot)
                self._pace.note(time.monotonic() - text.seated)
            _tell(text)
        for text in seated:
            if text.slot is None:
                text.slot = self._reader.open()
                text.seated = time.monotonic()
                text.context.timing.queue += time.monotonic_ns() - text.joined
                if isinstance(self._reader, Decoder):
                    unread, caller = text.writing.unread, text.context.caller
                    text.writing.skip(self._prefixes.restore(self._reader, text.slot, unread, caller))
        return seated

    def _advance(self, texts: Sequence[Text]) -> None:
        """Reads a part of one prompt, and generates one token of each text whose prompt is read."""
        reading = [text for text in texts if len(text.writing.unread) > 1]
        ready = [text for text in texts if len(text.writing.unread) == 1]
        if reading:
            self._account(reading[:1], self._read)
        if ready:
            self._account(ready, self._step)

    def _account(self, texts: Sequence[Text], work: Callable[[Sequence[Text]], None]) -> None:
        """Executes a run and adds its time to each of its texts; if it fails, ends them with the error."""
        begun = time.monotonic_ns()
        try:
            work(texts)
        except Exception as error:  # any error is passed on to those who wait
            for text in texts:
                text.end = error
        took = time.monotonic_ns() - begun
        batches = texts[0].context.timing.batches
        batches[len(texts)] = batches.get(len(texts), 0) + 1
        for text in texts:
            text.context.timing.compute += took
        texts = text = None  # type: ignore[assignment]  # see `serving.turns`

    def _read(self, texts: Sequence[Text]) -> None:
        (text,) = texts
        slot, writing = text.slot, text.writing
        assert slot is not None
        part = writing.unread[:READ_AT_ONCE]
        (logits,) = self._reader.read(slot, part, np.array([len(part) - 1]))
        if len(part) < len(writing.unread):
            writing.skip(len(part))
            return
        if isinstance(self._reader, Decoder):
            self._prefixes.keep(self._reader, slot, writing.asked.prompt, text.context.caller)
        text.piece += writing.take(logits)

    def _step(self, texts: Sequence[Text]) -> None:
        slots = {text.slot: text for text in texts if text.slot is not None}
        logits = self._reader.step({slot: int(text.writing.unread[0]) for slot, text in slots.items()})
        for slot, text in slots.items():
            try:
                text.piece += text.writing.take(logits[slot])
            except InvalidInput as error:  # caused by this text's own constraint: the others go on
                text.end = error
        texts = text = slots = None  # type: ignore[assignment]  # see `serving.turns`


def _expire(text: Text) -> None:
    """Ends a text at its deadline: as it is if it has begun, otherwise with an error."""
    if text.writing.progress.tokens:
        text.late = True  # the thread that writes it ends it
    else:
        text.news.put_nowait(too_late())


def _tell(text: Text) -> None:
    """Delivers a text's new piece and, if it has ended, its end."""
    news: list[str | Exception | None] = [text.piece] if text.piece else []
    if text.ended:
        news.append(text.end)
    text.piece = ""
    if news:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits
            text.loop.call_soon_threadsafe(_bring, text, news)


def _bring(text: Text, news: list[str | Exception | None]) -> None:
    for each in news:
        text.news.put_nowait(each)
