"""Beginnings of prompts that were read before, such as the instructions that all conversations begin with."""

from collections import OrderedDict

import numpy as np

from zoo.decoder import Decoder, Floats
from zoo.tasks.memory import Tokens

MOST = 4096  # tokens that are kept in all; of a model of 135 million parameters each takes 46 KB


Key = tuple[bytes, bytes]
"""A caller, and the tokens of a beginning as bytes."""


class Prefixes:
    """Keys and values of prompts by caller and tokens; those least recently used are forgotten.

    A beginning is used for its own caller alone: the time until an answer begins tells whether its beginning
    was kept, which would let one caller guess at what others ask.
    """

    def __init__(self, step: int) -> None:
        """Beginnings are used in multiples of `step` tokens.

        So a prompt is always read in the same parts, and its answer is the same to the last bit, whether its
        beginning was kept or not.
        """
        self._step = step
        self._kept: OrderedDict[Key, Floats] = OrderedDict()

    def restore(self, decoder: Decoder, slot: int, prompt: Tokens, caller: bytes) -> int:
        """How many of a prompt's first tokens a new text in the slot has now read; one at least is left."""
        best, shared = None, 0
        for key in self._kept:
            if (alike := _shared(key, prompt[:-1], caller) // self._step * self._step) > shared:
                best, shared = key, alike
        if best is not None:
            self._kept.move_to_end(best)
            decoder.copy_prefix(self._kept[best], slot, shared)
        return shared

    def keep(self, decoder: Decoder, slot: int, prompt: Tokens, caller: bytes) -> None:
        """Remembers a caller's prompt that the slot's text has read."""
        length = len(prompt) // self._step * self._step
        prompt = prompt[:length]
        if not 0 < length <= MOST or any(_shared(key, prompt, caller) == length for key in self._kept):
            return
        for key in [key for key in self._kept if _shared(key, prompt, caller) == _length(key)]:
            del self._kept[key]  # a part of this one
        self._kept[caller, prompt.tobytes()] = decoder.prefix(slot, length)
        while sum(map(_length, self._kept)) > MOST:
            self._kept.popitem(last=False)


def _length(key: Key) -> int:
    return len(key[1]) // 8


def _shared(key: Key, prompt: Tokens, caller: bytes) -> int:
    """Number of tokens with which two texts of one caller begin alike; 0 for texts of two callers."""
    if key[0] != caller:
        return 0
    kept = np.frombuffer(key[1], np.int64)
    length = min(len(kept), len(prompt))
    other = np.flatnonzero(kept[:length] != prompt[:length])
    return int(other[0]) if len(other) else length
