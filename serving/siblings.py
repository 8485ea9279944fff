"""Exchange of counts between the workers of the service: the worker that is queried asks all others.

Workers use Unix sockets in a directory that only this user may enter, which their supervising process creates
and removes. The counts of a killed worker are lost, as they are with a single worker.
"""

import asyncio
import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from zoo.errors import ZooError

PATIENCE = 1.0  # seconds to wait for a sibling's answer
ENDING = "*.sock"


class Siblings:
    """Serves this worker's state to its siblings, and queries theirs."""

    def __init__(self, directory: Path | None) -> None:
        """Without a `directory` there are no siblings."""
        self._directory = directory
        self._parts: dict[str, Callable[[], Any]] = {}
        self._own = None if directory is None else directory / f"{os.getpid()}.sock"
        self._server: asyncio.Server | None = None

    def share(self, part: str, state: Callable[[], Any]) -> None:
        """Registers a function that returns a part of this worker's state, as JSON types."""
        self._parts[part] = state

    async def start(self) -> None:
        """Starts the socket server on the running event loop."""
        if self._own is not None:
            self._server = await asyncio.start_unix_server(self._tell, self._own)

    def close(self) -> None:
        """Stops the socket server."""
        if self._server is not None and self._own is not None:
            self._server.close()
            self._own.unlink(missing_ok=True)

    def states(self, part: str) -> list[Any]:
        """Returns a part of the state of this worker and of each sibling that answers.

        Blocks until the siblings answer, so do not call it on the event loop.
        """
        paths = [] if self._directory is None else sorted(self._directory.glob(ENDING))
        told = [self._told(), *(_asked(path) for path in paths if path != self._own)]
        return [orjson.loads(state)[part] for state in told if state is not None]

    def _told(self) -> bytes:
        return orjson.dumps({part: state() for part, state in self._parts.items()})

    async def _tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._told())
        await writer.drain()
        writer.close()


def _asked(path: Path) -> bytes | None:
    """Returns the state of the process at a socket; None if it has ended or does not answer in time."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(path))
            with connection.makefile("rb") as told:
                return told.read()
        except OSError:
            return None


def meeting_place() -> Path:
    """Creates a directory for the sockets of this process's workers, which is removed when the process ends.

    Raises `ZooError` if the system has no Unix sockets, like Windows.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ZooError(
            "ZOO_WORKERS must be 1 here: several workers need Unix sockets, which this system lacks"
        )
    directory = Path(tempfile.mkdtemp(prefix="zoo-workers-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
