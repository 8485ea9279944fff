"""A text that a language model writes token by token, and the instructions for it.

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

READ_AT_ONCE = 256  # tokens of a prompt read in one run


class Constraint(Protocol):
    """Constraint on the form of one text, such as JSON."""

    def allowed(self) -> NDArray[np.bool_]:
        """Returns [V]: True for tokens that may come next, including end tokens if the text may end."""

    def accept(self, token: int) -> bool:
        """Adds a written token; returns True if the text is now complete and nothing may follow."""


@dataclass(frozen=True)
class Instructions:
    """Prompt to continue, and the settings for it."""

    prompt: Tokens
    """[T], at least one token."""
    max_tokens: int
    """Maximum number of tokens to write."""
    sampling: Sampling = Sampling()
    seed: int | None = None
    """Seed of the sampling; None for a different text each time."""
    stops: Sequence[str] = ()
    """Strings before which the text ends."""
    ends: frozenset[int] = frozenset()
    """Tokens that end the text; they are not part of it."""
    forbidden: frozenset[int] = frozenset()
    """Tokens that are never written."""
    top_logprobs: int | None = None
    """Number of most likely tokens to record beside each written token; None records nothing."""
    constraint: Constraint | None = None
    """Constraint for this text alone, as it remembers what was written."""
    known: Arrays = field(default_factory=dict)
    """Additional outputs, known before the text is written."""


@dataclass(frozen=True)
class Noted:
    """Probability of a written token, before temperature and other sampling parameters apply."""

    token: int
    offset: int
    """Number of characters of the text before the token."""
    logprob: float
    top: list[tuple[int, float]]
    """Most likely tokens at this position, with their log-probabilities."""


@dataclass
class Progress:
    """State of a text that is being written."""

    tokens: list[int] = field(default_factory=list)
    """Tokens written so far."""
    noted: list[Noted] = field(default_factory=list)
    ended: bool = False
    stopped: bool = False
    """True if the text ended by itself or by a stop string, not because of a limit on tokens or time."""


class Writing(Generation):
    """A text being written.

    Iterating over its pieces runs the model for this text alone. Alternatively, a caller runs the model for
    several texts at once and passes each text's `take` the logits of the token after its `unread` ones.
    """

    def __init__(self, codec: Tokenizer, memory: Memory, run: Run, asked: Instructions) -> None:
        self.asked = asked
        self.unread = asked.prompt
        """Tokens for the model to read next; only the last written one after the prompt was read."""
        self.progress = Progress()
        self._codec, self._memory, self._run = codec, memory, run
        self._held: Arrays | None = None
        self._random = np.random.default_rng(secrets.randbits(64) if asked.seed is None else asked.seed)
        self._counts: Counter[int] = Counter()
        self._unwanted = np.array(sorted(asked.forbidden), np.int64)
        self._decoding = DecodeStream(skip_special_tokens=False)
        self._shown = 0  # characters passed to the search for stop strings
        self._search = StopSearch(asked.stops)

    @property
    def places(self) -> int:
        """Maximum number of tokens that the memory has to hold."""
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
        """Drops the first `tokens` of the `unread` tokens, which the memory holds by now."""
        self.unread = self.unread[tokens:]

    def cut(self) -> str:
        """Ends the text as it is, because time is up; returns the piece that was held back."""
        self.progress.ended = True
        return self._search.add(self._rest()) + self._last()

    def take(self, logits: Logits) -> str:
        """Chooses the next token by logits [V], and returns the piece of text that it adds, maybe empty.

        Modifies the logits.
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
        piece = self._decoding.step(self._codec, token) or ""  # waits for all bytes of a character
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
        """Returns the characters of the last tokens that are held back until more tokens complete them."""
        return text(self._codec, self.progress.tokens)[self._shown :]

    def _last(self) -> str:
        """Returns the text that the search for stop strings holds back."""
        return "" if self._search.found else self._search.rest()


def text(codec: Tokenizer, tokens: Sequence[int]) -> str:
    """Returns the text of tokens."""
    return str(codec.decode(list(tokens), skip_special_tokens=False))


def _note(logits: Logits, token: int, offset: int, top: int) -> Noted:
    exact = logits.astype(np.float64)
    exact -= exact.max()
    exact -= np.log(np.exp(exact).sum())
    likeliest = np.argpartition(-exact, top)[:top] if top < len(exact) else np.arange(len(exact))
    likeliest = likeliest[np.argsort(-exact[likeliest], kind="stable")]
    return Noted(token, offset, float(exact[token]), [(int(one), float(exact[one])) for one in likeliest])
