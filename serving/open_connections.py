"""The connections that are open: bounded in number, and aborted where nobody reads an answer.

What a client does not read stays in memory, here and in the operating system, and no server closes such a
connection by itself: closing waits until everything is sent.
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
"""Seconds between two looks at what is unread. A look at 1,000 connections takes a millisecond."""
READ_SECONDS = 10.0
"""Seconds without a byte read after which a connection is aborted, once the deadline is past."""
NO_TIME = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""A `struct linger`: an end within 0 seconds, for which the operating system drops what is unread."""
OTHER_FILES = 1024
"""Files besides connections that a worker may have open: models, the registry's database, sockets."""


@dataclass(slots=True)
class Unread:
    """Bytes that one client had not read at the last look."""

    size: int = 0
    """Bytes."""
    since: float = 0.0
    """Time of the last change, as of `time.monotonic()`."""


class OpenConnections:
    """Looks at every connection of one process each second, as long as there are any."""

    def __init__(self, settings: Settings, memory: MemoryBudget | None = None) -> None:
        """`memory` counts what lies unread."""
        self.refused = 0
        """Connections closed since the start because there were too many."""
        self.aborted = 0
        """Connections aborted since the start because nobody read."""
        self._limit = settings.connections
        self._deadline = settings.deadline
        self._memory = memory
        self._held = 0
        """Bytes that the memory budget counts."""
        self._looking = False
        self._unread: dict[BoundedConnection, Unread] = {}

    def __len__(self) -> int:
        return len(self._unread)

    def add(self, connection: "BoundedConnection") -> bool:
        """Takes a connection that was made; False, and nothing is taken, where there are too many."""
        if len(self._unread) >= self._limit:
            self.refused += 1
            return False
        if not self._looking:
            self._looking = True
            get_running_loop().call_later(LOOK_SECONDS, self._look)
        self._unread[connection] = Unread()
        return True

    def remove(self, connection: "BoundedConnection") -> None:
        """Forgets a connection that is lost; again changes nothing."""
        self._unread.pop(connection, None)

    def _look(self) -> None:
        self._looking = bool(self._unread)
        if self._looking:  # first, so that an error below does not end the looks
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
        """The deadline of the request that came last; the longest one where it has none of its own."""
        scope: Mapping[str, Any] = {} if connection.cycle is None else connection.cycle.scope
        due: float = scope.get(DEADLINE, unread.since + self._deadline)
        return due


def allow_files(connections: int) -> None:
    """Raises this process's limit of open files, which is often 1,024, so that it does not end them first.

    A process may raise its limit up to another one that is the administrator's; a warning where that is low.
    """
    if sys.platform == "win32":  # which has no such limit
        return
    from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

    wanted = connections + OTHER_FILES
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft == RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == RLIM_INFINITY else min(wanted, hard)
    try:
        setrlimit(RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has one more limit, which it does not tell
        most = soft
    if most < wanted:
        log.warning("%d files may be open, too few for %d connections: see ulimit -n", most, connections)


def _abort(transport: Transport) -> None:
    """Closes a connection, and drops what is unread instead of sending it on."""
    with suppress(OSError):  # macOS refuses it where the client has reset the connection
        transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, NO_TIME)
    transport.abort()


def _unacknowledged(transport: Transport) -> int:
    """Bytes that the operating system has taken, and the client's has not; 0 where it does not tell."""
    if sys.platform != "linux":
        return 0
    from fcntl import ioctl
    from termios import TIOCOUTQ

    try:
        answer = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
    except OSError:  # closed in this moment
        return 0
    return int.from_bytes(answer, sys.byteorder)
