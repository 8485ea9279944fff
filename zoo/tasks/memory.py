"""Memory of a language model: the inputs of its graph that represent the text read so far.

Shape legend: N texts, T tokens to read, V vocabulary. Of a state: S parts, L layers, H hidden width. Of a
cache: G heads, C places (token capacity), K width of a head.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from zoo.tasks.base import Arrays, Run, Signature

Logits = NDArray[np.float32]
Tokens = NDArray[np.int64]

LAST = np.array([[-1]])  # position of a run's last token


class Memory(BaseModel, ABC):
    """A model's memory. Its contents for N texts are arrays, named as the graph's inputs are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example_tokens: ClassVar[int] = 64
    """Maximum number of tokens in an example's inputs."""

    @abstractmethod
    def signature(self) -> Signature:
        """Returns the signature of a graph with this memory."""

    @abstractmethod
    def start(self, texts: int, places: int) -> Arrays:
        """Returns an empty memory with capacity for `places` tokens of each of `texts` texts."""

    @abstractmethod
    def read(self, run: Run, tokens: Tokens, held: Arrays, *, whole: bool = False) -> tuple[Logits, Arrays]:
        """Reads tokens [N, T]; returns the logits of the tokens that follow, and the new memory.

        Logits are [N, V] after the last token or, if `whole`, [N, T, V] after each.
        """

    @abstractmethod
    def example(self, tokens: Tokens) -> Arrays:
        """Returns example inputs of the graph for these tokens."""


class RecurrentState(Memory):
    """A state of fixed size: float32 [N, S, L, H], zeros at the beginning of a text."""

    kind: Literal["recurrent_state"] = "recurrent_state"
    shape: tuple[int, int, int] = (1, 1, 1)
    """[S, L, H]."""

    def signature(self) -> Signature:
        return Signature("model", ("tokens", "state"), ("logits", "next_state"))

    def start(self, texts: int, places: int) -> Arrays:
        return {"state": np.zeros((texts, *self.shape), np.float32)}

    def read(self, run: Run, tokens: Tokens, held: Arrays, *, whole: bool = False) -> tuple[Logits, Arrays]:
        outputs = run({"tokens": tokens, **held})
        logits = outputs["logits"]
        return logits if whole else logits[:, -1], {"state": outputs["next_state"]}

    def example(self, tokens: Tokens) -> Arrays:
        return {"tokens": tokens, **self.start(len(tokens), 0)}


class KeyValueCache(Memory):
    """Keys and values of each token, float32 [N, G, C, K] per layer; `read` int64 [N] counts the tokens.

    The graph writes new keys and values after those already read. It returns logits only at the positions
    `places` int64 [N, P] of a run: most of a prompt's logits are not needed, and the output embedding is a
    large part of a small model.
    """

    kind: Literal["key_value_cache"] = "key_value_cache"
    layers: int
    heads: int
    """G."""
    width: int
    """K."""

    example_tokens: ClassVar[int] = 8  # the example's cache has four times as many places

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays, layer by layer."""
        return tuple(f"{what}_{layer}" for layer in range(self.layers) for what in ("keys", "values"))

    def signature(self) -> Signature:
        kept = tuple(f"next_{name}" for name in self.names)
        return Signature("model", ("tokens", "read", "places", *self.names), ("logits", *kept))

    def start(self, texts: int, places: int) -> Arrays:
        shape = (texts, self.heads, places, self.width)
        return {"read": np.zeros(texts, np.int64)} | {
            name: np.zeros(shape, np.float32) for name in self.names
        }

    def read(self, run: Run, tokens: Tokens, held: Arrays, *, whole: bool = False) -> tuple[Logits, Arrays]:
        texts, length = tokens.shape
        wanted = np.arange(length)[None] if whole else LAST
        outputs = run({"tokens": tokens, "places": np.repeat(wanted, texts, axis=0), **held})
        after = {name: outputs[f"next_{name}"] for name in self.names} | {"read": held["read"] + length}
        return outputs["logits"] if whole else outputs["logits"][:, 0], after

    def example(self, tokens: Tokens) -> Arrays:
        texts, length = tokens.shape
        held = self.start(texts, 4 * length)
        return {"tokens": tokens, "read": held["read"], "places": np.repeat(LAST, texts, axis=0), **held}


AnyMemory = Annotated[RecurrentState | KeyValueCache, Field(discriminator="kind")]
