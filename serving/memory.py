"""Memory budget for the requests in flight: their bodies and what is decoded from them.

The operating system ends a process that takes more than it may have, with every request in it; a request
that is refused can be sent again.
"""

import threading
from collections.abc import Callable

from serving.turns import Overloaded
from zoo.errors import InputTooLarge

Body = bytes | bytearray


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

    def reserve(self, size: int, held: int = 0) -> None:
        """Reserves bytes for a request that holds `held` bytes of the budget already.

        `Overloaded` if they exceed what is free now, `InputTooLarge` if both together exceed the limit.
        """
        if (needed := held + size) > self.limit:
            raise InputTooLarge(f"the request needs {needed:,} bytes of memory; it may have {self.limit:,}")
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
