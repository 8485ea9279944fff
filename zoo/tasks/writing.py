"""A text that a language model writes, token by token, and how it is asked to.

Shape legend: T tokens, V vocabulary.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from zoo.tasks.base import Arrays, Generation, Run
from zoo.tasks.memory import Logits, Memory, Tokens
from zoo.tasks.sampling import Sampling
from zoo.tasks.stopping import StopSearch

READ_AT_ONCE = 256  # tokens of a prompt in one run


class Constraint(Protocol):
    """What one text may be, such as JSON."""

    def allowed(self) -> NDArray[np.bool_]:
        """[V]: which tokens may come next, those with which the text ends among them where it may end."""

    def accept(self, token: int) -> bool:
        """Whether the text is complete with the token that came, and nothing may follow."""


@dataclass(frozen=True)
class Instructions:
    """What to go on with, and how."""

    prompt: Tokens
    """[T], at least one."""
    max_tokens: int
    """To be written at most."""
    sampling: Sampling = Sampling()
    seed: int | None = None
    """None for another text each time."""
    stops: Sequence[str] = ()
    """Strings before which the text ends."""
    ends: frozenset[int] = frozenset()
    """Tokens with which it ends, and which are no part of it."""
    forbidden: frozenset[int] = frozenset()
    """Tokens that are never written."""
    top_logprobs: int | None = None
    """How many of the likeliest tokens are noted beside each that was written; None notes nothing."""
    constraint: Constraint | None = None
    """Of this text alone: it remembers what was written."""
    known: Arrays = field(default_factory=dict)
    """What the outputs hold besides, known before anything is written."""


@dataclass(frozen=True)
class Noted:
    """How likely a token was that was written, before temperature and the like."""

    token: int
    offset: int
    """Letters of the text before it."""
    logprob: float
    top: list[tuple[int, float]]
    """The likeliest tokens there, and their logarithms of probability."""


@dataclass
class Progress:
    """What a text has come to."""

    tokens: list[int] = field(default_factory=list)
    """Those that were written."""
    noted: list[Noted] = field(default_factory=list)
    ended: bool = False
    stopped: bool = False
    """Whether it ended by itself, or by a stop string, and not for want of more tokens."""


class Writing(Generation):
    """A text being written.

    Asked for its pieces it runs the model by itself. Or somebody else runs it, for several texts at once, and
    lets each `take` the logits of what follows its `unread` tokens.
    """

    def __init__(self, codec: Tokenizer, memory: Memory, run: Run, asked: Instructions) -> None:
        self.asked = asked
        self.unread = asked.prompt
        """What the model is to read next; the last token alone once the prompt is read."""
        self.progress = Progress()
        self._codec, self._memory, self._run = codec, memory, run
        self._held: Arrays | None = None
        self._random = np.random.default_rng(secrets.randbits(64) if asked.seed is None else asked.seed)
        self._counts: Counter[int] = Counter()
        self._unwanted = np.array(sorted(asked.forbidden), np.int64)
        self._decoding = DecodeStream(skip_special_tokens=False)
        self._shown = 0  # characters that went through the search for stop strings
        self._search = StopSearch(asked.stops)

    @property
    def places(self) -> int:
        """Tokens that have to be remembered at most."""
        return len(self.asked.prompt) + self.asked.max_tokens

    @property
    def inputs(self) -> Arrays:
        return {"tokens": self.asked.prompt[None]}

    @property
    def outputs(self) -> Arrays:
        return {
            "tokens": np.array([self.progress.tokens], np.int64),
            "prompt_tokens": np.array(len(self.asked.prompt)),
            "stopped": np.array(self.progress.stopped),
            **self.asked.known,
        }

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.progress.ended:
            raise StopIteration
        if self._held is None:
            self._held = self._memory.start(1, self.places)
        part, left = np.split(self.unread, [READ_AT_ONCE])
        logits, self._held = self._memory.read(self._run, part[None], self._held)
        if len(left):
            self.unread = left
            return ""
        return self.take(logits[0])

    def skip(self, tokens: int) -> None:
        """So many of the `unread` tokens were read."""
        self.unread = self.unread[tokens:]

    def cut(self) -> str:
        """Ends the text as it is, for want of time; returns the piece that was held back."""
        self.progress.ended = True
        return self._search.add(self._rest()) + self._last()

    def take(self, logits: Logits) -> str:
        """The piece of text that comes with the next token, chosen by its logits [V]; maybe empty.

        The logits are the caller's no longer.
        """
        asked, progress = self.asked, self.progress
        if asked.top_logprobs is not None:
            raw = logits.copy()
        logits[self._unwanted] = -np.inf
        if asked.constraint is not None:
            logits[~asked.constraint.allowed()] = -np.inf
        token = asked.sampling.choose(logits, self._random, self._counts)
        self.unread = np.array([token], np.int64)
        if token in asked.ends:
            progress.ended = progress.stopped = True
            return self._search.add(self._rest()) + self._last()
        progress.tokens.append(token)
        self._counts[token] += 1
        if asked.top_logprobs is not None:
            progress.noted.append(_note(raw, token, self._shown, asked.top_logprobs))
        piece = self._decoding.step(self._codec, token) or ""  # no letter of several bytes is cut
        self._shown += len(piece)
        if asked.constraint is not None and asked.constraint.accept(token):
            progress.ended = progress.stopped = True
        if progress.ended or len(progress.tokens) == asked.max_tokens:
            progress.ended = True
            piece += self._rest()
        certain = self._search.add(piece)
        if self._search.found:
            progress.ended = progress.stopped = True
        return certain + self._last() if progress.ended else certain

    def _rest(self) -> str:
        """Characters of the last tokens that are whole only together with what would follow."""
        return text(self._codec, self.progress.tokens)[self._shown :]

    def _last(self) -> str:
        """What was held back."""
        return "" if self._search.found else self._search.rest()


def text(codec: Tokenizer, tokens: Sequence[int]) -> str:
    """What tokens stand for."""
    return str(codec.decode(list(tokens), skip_special_tokens=False))


def _note(logits: Logits, token: int, offset: int, top: int) -> Noted:
    exact = logits.astype(np.float64)
    exact -= exact.max()
    exact -= np.log(np.exp(exact).sum())
    likeliest = np.argpartition(-exact, top)[:top] if top < len(exact) else np.arange(len(exact))
    likeliest = likeliest[np.argsort(-exact[likeliest], kind="stable")]
    return Noted(token, offset, float(exact[token]), [(int(one), float(exact[one])) for one in likeliest])
