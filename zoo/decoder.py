"""Batched decoding of several sequences with a Llama's graph, whose key-value cache is updated in place.

Keys and values lie in one buffer that is both input and output of each run, so no run copies the cache,
however long a sequence is. Positions that no sequence has reached take no memory.

Shape legend: N rows, L layers, G heads of keys and values, K width of a head, S positions of a row, T tokens,
P positions whose logits are wanted, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.graph import Graph

Floats = NDArray[np.float32]
Tokens = NDArray[np.int64]


class Decoder:
    """Sequences in slots, with the cached keys and values of each. Not thread-safe.

    The graph is one of `training.llama_graph`. A run needs adjacent rows of the cache: the open slots occupy
    the first rows, and when a slot is closed, the last row moves to its place.
    """

    def __init__(self, graph: Graph, layers: int, heads: int, width: int, context: int, slots: int) -> None:
        """Allocates the cache for `slots` sequences of at most `context` tokens, the graph's limit or less.

        `heads` is the number of key-value heads, `width` the width of one.
        """
        self.context = context
        self._session = graph.session
        self._names = [f"{kind}_{layer}" for layer in range(layers) for kind in ("keys", "values")]
        self._vocabulary = next(int(shape[-1]) for name, _, shape in graph.outputs if name == "logits")
        self._cache: Floats = np.empty((2 * layers, slots, heads, context, width), np.float32)
        self._held = np.zeros(slots, np.int64)  # tokens by row; the next two are also by row
        self._last = np.zeros((slots, 1), np.int64)  # token that was read last
        self._slots: list[int] = []
        self._free = list(reversed(range(slots)))
        self._steps: dict[int, _Run] = {}  # by number of rows

    @property
    def free(self) -> int:
        """Number of slots that can be opened."""
        return len(self._free)

    def open(self) -> int:
        """Opens a slot with an empty sequence and returns it; `IndexError` if none is free."""
        slot = self._free.pop()
        self._held[len(self._slots)] = 0
        self._slots.append(slot)
        return slot

    def close(self, slot: int) -> None:
        """Frees a slot and drops its sequence."""
        row, last = self._row(slot), len(self._slots) - 1
        if row != last:
            held = self._held[row] = self._held[last]
            self._last[row] = self._last[last]
            self._cache[:, row, :, :held] = self._cache[:, last, :, :held]
            self._slots[row] = self._slots[last]
        self._slots.pop()
        self._free.append(slot)

    def held(self, slot: int) -> int:
        """Returns the number of tokens read into a slot."""
        return int(self._held[self._row(slot)])

    def read(self, slot: int, tokens: Tokens, places: Tokens) -> Floats:
        """Appends tokens [T] to a slot in one run; returns the logits [P, V] at some of their positions.

        `ValueError` if the sequence would become longer than the context.
        """
        row = self._row(slot)
        self._check_room(row, len(tokens))
        run = _Run(self, row, 1, len(tokens), len(places))
        run.tokens[0], run.places[0], run.read[0] = tokens, places, self._held[row]
        run()
        self._held[row] += len(tokens)
        self._last[row] = tokens[-1]
        logits: Floats = run.logits[0]
        return logits

    def step(self, tokens: Mapping[int, int]) -> dict[int, Floats]:
        """Appends one token to each given slot in one run; returns the logits [V] after each, by slot.

        `ValueError` if a sequence would become longer than the context.
        """
        stepping = {slot: self._row(slot) for slot in tokens}
        rows = max(stepping.values()) + 1
        if rows not in self._steps:
            self._steps[rows] = _Run(self, 0, rows, 1, 1)
        run = self._steps[rows]
        # A row in between that is not stepped reads a dummy token at its next position, which it does not
        # count; if its context is full, it reads its last token again.
        run.read[:] = np.minimum(self._held[:rows], self.context - 1)
        run.tokens[:] = self._last[:rows]
        for slot, row in stepping.items():
            self._check_room(row, 1)
            run.tokens[row] = tokens[slot]
        run()
        for row in stepping.values():
            self._held[row] += 1
            self._last[row] = run.tokens[row]
        logits = run.logits[:, 0].copy()  # a copy, because the next step overwrites the run's output
        return {slot: logits[row] for slot, row in stepping.items()}

    def prefix(self, slot: int, tokens: int) -> Floats:
        """Returns a copy of the cache [2 L, G, T, K] of a slot's first `tokens` tokens, for `copy_prefix`."""
        return self._cache[:, self._row(slot), :, :tokens].copy()

    def copy_prefix(self, prefix: Floats, slot: int, tokens: int) -> None:
        """Replaces a slot's sequence with the first `tokens` tokens of a `prefix`.

        `ValueError` if that leaves no position in the context.
        """
        row = self._row(slot)
        self._held[row] = 0
        self._check_room(row, tokens + 1)
        self._cache[:, row, :, :tokens] = prefix[:, :, :tokens]
        self._held[row] = tokens

    def _row(self, slot: int) -> int:
        return self._slots.index(slot)

    def _check_room(self, row: int, tokens: int) -> None:
        if self._held[row] + tokens > self.context:
            raise ValueError(
                f"a text of {self._held[row]} tokens and {tokens} more is longer than {self.context}"
            )


class _Run:
    """A run of `rows` adjacent rows from `row` on, with fixed memory for all inputs and outputs."""

    def __init__(self, decoder: Decoder, row: int, rows: int, tokens: int, places: int) -> None:
        self.tokens = np.zeros((rows, tokens), np.int64)
        self.read = np.zeros(rows, np.int64)
        self.places = np.zeros((rows, places), np.int64)
        self.logits: Floats = np.empty((rows, places, decoder._vocabulary), np.float32)
        self._session = decoder._session
        self._binding = decoder._session.io_binding()
        for name in ("tokens", "read", "places"):
            self._bind(self._binding.bind_input, name, getattr(self, name))
        self._bind(self._binding.bind_output, "logits", self.logits)
        for name, cache in zip(decoder._names, decoder._cache[:, row : row + rows], strict=True):
            self._bind(self._binding.bind_input, name, cache)
            self._bind(self._binding.bind_output, f"next_{name}", cache)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _bind(self, bind: Any, name: str, array: NDArray[Any]) -> None:
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
