"""Memory budget for the requests in flight: their bodies and what is decoded from them.

The operating system ends a process that takes more than it may have, with every request in it; a request
that is refused can be sent again.
"""

import threading
from collections.abc import Callable

import numpy as np

from serving.context import RequestContext
from serving.turns import Overloaded
from zoo.errors import InputTooLarge

Body = bytes | bytearray
SMALL_TEXT = 16_384  # bytes; what is parsed of it takes two megabytes at most


class MemoryBudget:
    """Bytes reserved by requests in flight, and their limit. Any thread may reserve."""

    def __init__(self, limit: int, retry_after: Callable[[], float]) -> None:
        """`retry_after` estimates the seconds until some of what is reserved is free again."""
        self.limit = limit
        self.reserved = 0
        """Bytes."""
        self.refused = 0
        """Requests refused since the start."""
        self._retry_after = retry_after
        self._lock = threading.Lock()

    def reserve(self, size: int) -> None:
        """Reserves bytes.

        `Overloaded` if they exceed what others leave of the limit, `InputTooLarge` if they exceed all of it.
        """
        if size > self.limit:
            raise InputTooLarge(f"the request needs {size:,} bytes of memory; it may have {self.limit:,}")
        with self._lock:
            if self.reserved + size <= self.limit:
                self.reserved += size
                return
            self.refused += 1
        raise Overloaded("the memory for requests is in use; try again later", self._retry_after())

    def hold(self, size: int) -> None:
        """Counts bytes that are in use already, past the limit if it must be; a negative size frees some."""
        with self._lock:
            self.reserved += size

    def free(self, size: int) -> None:
        """Returns reserved bytes."""
        with self._lock:
            self.reserved -= size


def reserve_parsed(context: RequestContext, text: Body) -> None:
    """Reserves the memory that a request's JSON text takes once it is parsed; nothing for a small one."""
    if len(text) > SMALL_TEXT:
        context.reserve(parsed_bytes(text))


def parsed_bytes(text: Body) -> int:
    """Upper estimate of the memory that a JSON text takes once it is parsed, in bytes.

    In CPython on 64 bits a number takes 32 bytes at most, a short string 56 and its letters, a list 88 and an
    object 232, each with its pointer; letters beyond ASCII take up to four bytes.
    """
    letters = np.frombuffer(text, np.uint8)
    commas, lists, objects = (int(np.count_nonzero(letters == ord(mark))) for mark in ",[{")
    return len(text) * (1 if text.isascii() else 4) + 64 * commas + 96 * lists + 240 * objects
