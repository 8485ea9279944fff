"""TCP ports of this machine's loopback interface."""

import errno
import os
import socket

from zoo.errors import InvalidInput, ZooError

LOOPBACK = "127.0.0.1"
LAST_PORT = 65535


def require_free(port: int, advice: str) -> None:
    """Raises `ZooError` unless a server can listen on the port.

    `advice` is the end of the message; its {port} becomes a free port.
    """
    if not 1 <= port <= LAST_PORT:
        raise InvalidInput(f"a port is a number from 1 to {LAST_PORT}, not {port}")
    if (error := _failure(port)) is not None:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ZooError(f"port {port} {reason}; choose another: {advice.format(port=_free_port(port))}")


def _failure(port: int) -> OSError | None:
    """Returns the error that keeps a server from listening on the port; None if it can listen."""
    with socket.socket() as listener:
        if os.name == "posix":  # as servers do: connections of an earlier server do not block the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            return error
    return None


def _free_port(after: int) -> int:
    """Returns the next free port that needs no privileges; 0 if there is none."""
    candidates = range(max(after, 1024) + 1, LAST_PORT + 1)
    return next((port for port in candidates if _failure(port) is None), 0)
