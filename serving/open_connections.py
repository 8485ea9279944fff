"""Open connections: limited in number, and aborted if the client does not read its answer.

Unread data stays in memory, in this process and in the operating system, and a normal close of such a
connection would wait until everything is sent.
"""

import logging
import struct
import sys
import time
from asyncio import Transport, get_running_loop
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from serving.exchange import DEADLINE
from serving.memory import MemoryBudget
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.connection import BoundedConnection

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Seconds between two checks for unread data. A check of 1,000 connections takes a millisecond."""
READ_SECONDS = 10.0
"""Seconds without progress after which a connection is aborted, once the request's deadline is past."""
NO_TIME = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""`struct linger` of 0 seconds, with which the operating system drops unread data on close."""
OTHER_FILES = 1024
"""Number of files that a worker may open besides connections: models, the registry's database, sockets."""


@dataclass(slots=True)
class Unread:
    """Unread data of one client at the last check."""

    size: int = 0
    """Unread bytes, here and in the operating system."""
    since: float = 0.0
    """Time of the last change of the size, on `time.monotonic()`."""


class OpenConnections:
    """Checks all connections of one process every second, as long as there are any."""

    def __init__(self, settings: Settings, memory: MemoryBudget | None = None) -> None:
        """`memory` is charged for unread data in this process."""
        self.refused = 0
        """Number of connections closed since the start because there were too many."""
        self.aborted = 0
        """Number of connections aborted since the start because the client did not read."""
        self._limit = settings.connections
        self._deadline = settings.deadline
        self._memory = memory
        self._held = 0
        """Unread bytes charged to the memory budget."""
        self._looking = False
        self._unread: dict[BoundedConnection, Unread] = {}

    def __len__(self) -> int:
        return len(self._unread)

    def add(self, connection: "BoundedConnection") -> bool:
        """Registers a new connection; returns False without registering it if there are too many."""
        if len(self._unread) >= self._limit:
            self.refused += 1
            return False
        if not self._looking:
            self._looking = True
            get_running_loop().call_later(LOOK_SECONDS, self._look)
        self._unread[connection] = Unread()
        return True

    def remove(self, connection: "BoundedConnection") -> None:
        """Removes a lost connection. Further calls have no effect."""
        self._unread.pop(connection, None)

    def _look(self) -> None:
        self._looking = bool(self._unread)
        if self._looking:  # first, so that an error below does not stop the checks
            get_running_loop().call_later(LOOK_SECONDS, self._look)
        now, held = time.monotonic(), 0
        for connection, unread in list(self._unread.items()):
            buffered = connection.transport.get_write_buffer_size()
            held += buffered
            size = buffered + _unacknowledged(connection.transport)
            if size != unread.size or size == 0:
                unread.size, unread.since = size, now
            elif now - unread.since >= READ_SECONDS and now >= self._due(connection, unread):
                _abort(connection.transport)
                self.aborted += 1
        if self._memory is not None:
            self._memory.hold(held - self._held)
        self._held = held

    def _due(self, connection: "BoundedConnection", unread: Unread) -> float:
        """Returns the deadline of the last request; if it has none, the longest possible one."""
        scope: Mapping[str, Any] = {} if connection.cycle is None else connection.cycle.scope
        due: float = scope.get(DEADLINE, unread.since + self._deadline)
        return due


def allow_files(connections: int) -> None:
    """Raises the process's limit of open files, often 1,024, so that it does not limit the connections first.

    A process may raise its limit up to the hard limit, which the administrator sets; logs a warning if that
    is too low.
    """
    if sys.platform == "win32":  # Windows has no such limit
        return
    from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

    wanted = connections + OTHER_FILES
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft == RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == RLIM_INFINITY else min(wanted, hard)
    try:
        setrlimit(RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has another limit, which it does not report
        most = soft
    if most < wanted:
        log.warning("%d files may be open, too few for %d connections: see ulimit -n", most, connections)


def _abort(transport: Transport) -> None:
    """Closes a connection and drops unread data instead of sending it."""
    with suppress(OSError):  # macOS refuses this if the client has reset the connection
        transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, NO_TIME)
    transport.abort()


def _unacknowledged(transport: Transport) -> int:
    """Returns the bytes in the kernel that the client has not acknowledged; 0 if unknown."""
    if sys.platform != "linux":
        return 0
    from fcntl import ioctl
    from termios import TIOCOUTQ

    try:
        answer = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
    except OSError:  # just closed
        return 0
    return int.from_bytes(answer, sys.byteorder)
