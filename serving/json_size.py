"""Estimate of a JSON text's size once parsed, made before: parsing megabytes of `[],[],...` takes seconds."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.context import RequestContext
from serving.memory import Body

SMALL_TEXT = 16_384  # bytes; parsed, it takes at most two megabytes
MAX_VALUES = 1 << 17
"""Maximum number of JSON values that a thread parses, in about 10 ms; child processes parse larger texts."""
PIECE = 1 << 20  # bytes that are counted at a time


@dataclass(frozen=True)
class JsonSize:
    """Counts of characters in a text, including those inside strings."""

    length: int
    commas: int
    lists: int
    objects: int
    digits: int
    ascii: bool

    @property
    def values(self) -> int:
        """Upper bound of the number of values in the text."""
        return 1 + self.commas + self.lists + self.objects

    @property
    def parsed_bytes(self) -> int:
        """Upper bound of the bytes of memory that the parsed text takes.

        In 64-bit CPython a number takes at most 32 bytes, a short string 56 plus its characters, a list 88
        and an object 232, each with its pointer; non-ASCII characters take up to four bytes.
        """
        letters = self.length * (1 if self.ascii else 4)
        return letters + 64 * self.commas + 96 * self.lists + 240 * self.objects


SMALL = JsonSize(0, 0, 0, 0, 0, True)
"""Size of a text that is too small to be counted."""


def json_size(text: Body | memoryview) -> JsonSize:
    """Counts the characters of a text, in about a millisecond per megabyte."""
    if len(text) <= SMALL_TEXT:
        return SMALL
    commas = lists = objects = digits = beyond = 0
    letters = np.frombuffer(text, np.uint8)
    for start in range(0, len(letters), PIECE):
        piece = letters[start : start + PIECE]
        commas += int(np.count_nonzero(piece == ord(",")))
        lists += int(np.count_nonzero(piece == ord("[")))
        objects += int(np.count_nonzero(piece == ord("{")))
        beyond += int(np.count_nonzero(piece & 0x80))
        digits += int(np.count_nonzero(piece - np.uint8(ord("0")) < 10))  # characters below "0" wrap around
    return JsonSize(len(text), commas, lists, objects, digits, not beyond)


def node_count(value: Any, most: int) -> int:
    """Counts the values in a parsed JSON value, including itself; stops soon after `most`."""
    waiting, count = [value], 1
    while waiting and count <= most:
        one = waiting.pop()
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        count += len(inside)
        waiting += (each for each in inside if isinstance(each, dict | list))
    return count


def reserve_parsed(context: RequestContext, text: Body | memoryview) -> JsonSize:
    """Reserves the memory for a request's JSON text once it is parsed, and returns its size."""
    size = json_size(text)
    if size is not SMALL:
        context.reserve(size.parsed_bytes)
    return size
