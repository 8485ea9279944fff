"""Memory budget for the requests in flight: their bodies and the data decoded from them.

The operating system kills a process that exceeds its memory, with all of its requests; a refused request can
be sent again.
"""

import threading
from collections.abc import Callable

from serving.turns import Overloaded
from zoo.errors import InputTooLarge

Body = bytes | bytearray


class MemoryBudget:
    """Bytes reserved by the requests in flight, with a limit. Any thread may reserve and free bytes."""

    def __init__(self, limit: int, retry_after: Callable[[], float]) -> None:
        """`retry_after` estimates the seconds until some of the reserved bytes are free again."""
        self.limit = limit
        self.reserved = 0
        """Bytes reserved now."""
        self.refused = 0
        """Number of reservations refused for lack of free memory since the start."""
        self._retry_after = retry_after
        self._lock = threading.Lock()

    def reserve(self, size: int, held: int = 0) -> None:
        """Reserves bytes for a request that already holds `held` bytes of the budget.

        Raises `Overloaded` if `size` exceeds the free bytes, and `InputTooLarge` if both together exceed the
        limit.
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
        """Adds bytes that are already in use, even beyond the limit; a negative size frees bytes."""
        with self._lock:
            self.reserved += size

    def free(self, size: int) -> None:
        """Returns reserved bytes to the budget."""
        with self._lock:
            self.reserved -= size
