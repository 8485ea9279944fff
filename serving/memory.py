"""The memory that requests in flight may take together: bodies, and what is decoded from them.

The operating system ends a process that takes more than it may have, with every request in it; a request
that is refused can be sent again.
"""

import threading
from collections.abc import Callable

from serving.turns import Overloaded


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
        """Reserves bytes; `Overloaded` if they would exceed the limit."""
        with self._lock:
            if self.reserved + size <= self.limit:
                self.reserved += size
                return
            self.refused += 1
        raise Overloaded("the memory for requests is in use; try again later", self._retry_after())

    def free(self, size: int) -> None:
        """Returns reserved bytes."""
        with self._lock:
            self.reserved -= size


class Lease:
    """The bytes that one request has reserved."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.size = 0

    def extend(self, size: int) -> None:
        """Reserves so many bytes more; `Overloaded` if they would exceed the budget's limit."""
        self._budget.reserve(size)
        self.size += size

    def close(self) -> None:
        """Returns everything; again changes nothing."""
        if self.size:
            self._budget.free(self.size)
            self.size = 0


def parsed_bytes(text: bytes | bytearray) -> int:
    """Upper estimate of the memory that a JSON text takes once it is parsed, in bytes.

    In CPython on 64 bits a number takes 24 to 32 bytes and its pointer 8, a list or an object 56 to 64 and
    its pointer. The strings together take no more than the text.
    """
    return len(text) + 40 * text.count(b",") + 72 * (text.count(b"[") + text.count(b"{"))
