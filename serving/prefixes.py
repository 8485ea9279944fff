"""Beginnings of prompts that were read before, such as the instructions that all conversations begin with."""

from collections import OrderedDict

import numpy as np

from zoo.decoder import Decoder, Floats
from zoo.tasks.memory import Tokens

MOST = 4096  # tokens that are kept in all; of a model of 135 million parameters each takes 46 KB


class Prefixes:
    """Keys and values of prompts by their tokens; those least recently used are forgotten."""

    def __init__(self, step: int) -> None:
        """Beginnings are used in multiples of `step` tokens.

        So a prompt is always read in the same parts, and its answer is the same to the last bit, whether its
        beginning was kept or not.
        """
        self._step = step
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()

    def restore(self, decoder: Decoder, slot: int, prompt: Tokens) -> int:
        """How many of a prompt's first tokens a new text in the slot has now read; one at least is left."""
        best, shared = None, 0
        for key in self._kept:
            if (alike := _shared(key, prompt[:-1]) // self._step * self._step) > shared:
                best, shared = key, alike
        if best is not None:
            self._kept.move_to_end(best)
            decoder.copy_prefix(self._kept[best], slot, shared)
        return shared

    def keep(self, decoder: Decoder, slot: int, prompt: Tokens) -> None:
        """Remembers a prompt that the slot's text has read."""
        length = len(prompt) // self._step * self._step
        prompt = prompt[:length]
        if not 0 < length <= MOST or any(_shared(key, prompt) == length for key in self._kept):
            return
        for key in [key for key in self._kept if _shared(key, prompt) == _length(key)]:
            del self._kept[key]  # a part of this one
        self._kept[prompt.tobytes()] = decoder.prefix(slot, length)
        while sum(map(_length, self._kept)) > MOST:
            self._kept.popitem(last=False)


def _length(key: bytes) -> int:
    return len(key) // 8


def _shared(key: bytes, prompt: Tokens) -> int:
    """How many tokens two texts have alike from the beginning on."""
    kept = np.frombuffer(key, np.int64)
    length = min(len(kept), len(prompt))
    other = np.flatnonzero(kept[:length] != prompt[:length])
    return int(other[0]) if len(other) else length
