"""Cache of prompt prefixes that were read before, such as the instructions that begin all conversations."""

from collections import OrderedDict

import numpy as np

from zoo.decoder import Decoder, Floats
from zoo.tasks.memory import Tokens

MOST = 4096  # tokens cached in total; in a model with 135 million parameters each takes 46 KB


Key = tuple[bytes, bytes]
"""Caller, and the tokens of a prefix as bytes."""


class Prefixes:
    """Cache of the keys and values of prompts by caller and tokens; evicts the least recently used ones.

    A prefix is used for its own caller only: the time until an answer begins reveals if its prefix was
    cached, so that a caller could otherwise guess the prompts of others.
    """

    def __init__(self, step: int) -> None:
        """Uses prefixes in multiples of `step` tokens.

        So a prompt is always read in the same parts, and its answer is identical to the last bit, with a
        cached prefix or without.
        """
        self._step = step
        self._kept: OrderedDict[Key, Floats] = OrderedDict()

    def restore(self, decoder: Decoder, slot: int, prompt: Tokens, caller: bytes) -> int:
        """Copies the longest cached prefix of a prompt to a slot; returns its tokens, at most all but one."""
        best, shared = None, 0
        for key in self._kept:
            if (alike := _shared(key, prompt[:-1], caller) // self._step * self._step) > shared:
                best, shared = key, alike
        if best is not None:
            self._kept.move_to_end(best)
            decoder.copy_prefix(self._kept[best], slot, shared)
        return shared

    def keep(self, decoder: Decoder, slot: int, prompt: Tokens, caller: bytes) -> None:
        """Caches a caller's prompt that the slot's text has read."""
        length = len(prompt) // self._step * self._step
        prompt = prompt[:length]
        if not 0 < length <= MOST or any(_shared(key, prompt, caller) == length for key in self._kept):
            return
        for key in [key for key in self._kept if _shared(key, prompt, caller) == _length(key)]:
            del self._kept[key]  # it is a prefix of this one
        self._kept[caller, prompt.tobytes()] = decoder.prefix(slot, length)
        while sum(map(_length, self._kept)) > MOST:
            self._kept.popitem(last=False)


def _length(key: Key) -> int:
    return len(key[1]) // 8


def _shared(key: Key, prompt: Tokens, caller: bytes) -> int:
    """Returns the length of the common prefix of two texts in tokens; 0 for texts of two callers."""
    if key[0] != caller:
        return 0
    kept = np.frombuffer(key[1], np.int64)
    length = min(len(kept), len(prompt))
    other = np.flatnonzero(kept[:length] != prompt[:length])
    return int(other[0]) if len(other) else length
