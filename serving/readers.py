"""Readers: run a language model for several texts at once, each in a slot of its own."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from zoo.decoder import Decoder
from zoo.graph import Graph, GraphSet
from zoo.tasks import Arrays, Run, Task
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache, Logits, RecurrentState, Tokens


class Reader(Protocol):
    """Reads tokens of texts and returns the logits of the next token."""

    def open(self) -> int:
        """Allocates a free slot for a new text."""

    def close(self, slot: int) -> None:
        """Frees a slot and deletes its text."""

    def read(self, slot: int, tokens: Tokens, places: Tokens) -> Logits:
        """Reads the next tokens [T] of one text -> logits [P, V] after the tokens at these positions."""

    def step(self, tokens: Mapping[int, int]) -> dict[int, Logits]:
        """Reads the next token of each of these slots -> the logits [V] after it."""


class StateReader:
    """Reader for recurrent models, which keeps only the state of each text."""

    def __init__(self, memory: RecurrentState, run: Run, slots: int) -> None:
        self._memory, self._run = memory, run
        self._free = list(reversed(range(slots)))
        self._held: dict[int, Arrays] = {}

    def open(self) -> int:
        slot = self._free.pop()
        self._held[slot] = self._memory.start(1, 0)
        return slot

    def close(self, slot: int) -> None:
        del self._held[slot]
        self._free.append(slot)

    def read(self, slot: int, tokens: Tokens, places: Tokens) -> Logits:
        logits, self._held[slot] = self._memory.read(self._run, tokens[None], self._held[slot], whole=True)
        wanted: Logits = logits[0, places]
        return wanted

    def step(self, tokens: Mapping[int, int]) -> dict[int, Logits]:
        held = [self._held[slot] for slot in tokens]
        joined = {name: np.concatenate([each[name] for each in held]) for name in held[0]}
        logits, after = self._memory.read(self._run, np.array([*tokens.values()])[:, None], joined)
        for row, slot in enumerate(tokens):
            self._held[slot] = {name: array[row : row + 1] for name, array in after.items()}
        return dict(zip(tokens, logits, strict=True))


def reader_for(task: Task, graph: Graph | GraphSet, slots: int) -> Reader | None:
    """Returns a reader with `slots` slots; None if the model is not a language model."""
    if not isinstance(task, LanguageModelling):
        return None
    memory = task.memory
    if isinstance(memory, KeyValueCache):
        assert isinstance(graph, Graph)
        assert task.places is not None
        return Decoder(graph, memory.layers, memory.heads, memory.width, task.places, slots)
    return StateReader(memory, graph, slots)
