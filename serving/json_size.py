"""Size of a JSON text once it is parsed, counted before: parsing megabytes of `[],[],...` takes seconds."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.context import RequestContext
from serving.memory import Body

SMALL_TEXT = 16_384  # bytes; what is parsed of it takes two megabytes at most
MAX_VALUES = 1 << 17
"""Values of JSON that a thread parses, in about ten milliseconds; child processes parse more."""
PIECE = 1 << 20  # bytes that are counted at one time


@dataclass(frozen=True)
class JsonSize:
    """Counts of a text's characters, those in its strings among them."""

    length: int
    commas: int
    lists: int
    objects: int
    digits: int
    ascii: bool

    @property
    def values(self) -> int:
        """Values that the text holds, at most."""
        return 1 + self.commas + self.lists + self.objects

    @property
    def parsed_bytes(self) -> int:
        """Memory that the parsed text takes, at most.

        In CPython on 64 bits a number takes 32 bytes at most, a short string 56 and its letters, a list 88
        and an object 232, each with its pointer; letters beyond ASCII take up to four bytes.
        """
        letters = self.length * (1 if self.ascii else 4)
        return letters + 64 * self.commas + 96 * self.lists + 240 * self.objects


SMALL = JsonSize(0, 0, 0, 0, 0, True)
"""Size of a text that is so small that it is not counted."""


def json_size(text: Body | memoryview) -> JsonSize:
    """Counts a text, in about a millisecond for each megabyte."""
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
        digits += int(np.count_nonzero(piece - np.uint8(ord("0")) < 10))  # letters below "0" wrap around
    return JsonSize(len(text), commas, lists, objects, digits, not beyond)


def node_count(value: Any, most: int) -> int:
    """Counts the values in a parsed JSON value, itself included; stops soon past `most`."""
    waiting, count = [value], 1
    while waiting and count <= most:
        one = waiting.pop()
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        count += len(inside)
        waiting += (each for each in inside if isinstance(each, dict | list))
    return count


def reserve_parsed(context: RequestContext, text: Body | memoryview) -> JsonSize:
    """Reserves the memory that a request's JSON text takes once it is parsed; returns its size."""
    size = json_size(text)
    if size is not SMALL:
        context.reserve(size.parsed_bytes)
    return size
