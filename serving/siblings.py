"""The other workers of the service: each says what it counted, and whoever is asked for counts asks them all.

Over Unix sockets in a directory that only this user may enter, made and removed by the process that
supervises the workers. What a worker had counted that was killed is lost, as it is where there is only one.
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

PATIENCE = 1.0  # seconds for which a sibling may not answer
ENDING = "*.sock"


class Siblings:
    """Tells the others what is shared of its own state, and asks them for theirs."""

    def __init__(self, directory: Path | None) -> None:
        """Without a directory there are no others."""
        self._directory = directory
        self._parts: dict[str, Callable[[], Any]] = {}
        self._own = None if directory is None else directory / f"{os.getpid()}.sock"
        self._server: asyncio.Server | None = None

    def share(self, part: str, state: Callable[[], Any]) -> None:
        """From the start on the others are told this part of the state, in JSON's types."""
        self._parts[part] = state

    async def start(self) -> None:
        """Begins to tell, on this event loop."""
        if self._own is not None:
            self._server = await asyncio.start_unix_server(self._tell, self._own)

    def close(self) -> None:
        """Ends that."""
        if self._server is not None and self._own is not None:
            self._server.close()
            self._own.unlink(missing_ok=True)

    def states(self, part: str) -> list[Any]:
        """A part of the state of each that answers, this process among them.

        Waits for the others, so not to be called by the event loop.
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
    """What the process at a socket tells; None where there is none any more, or it has no time."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(path))
            with connection.makefile("rb") as told:
                return told.read()
        except OSError:
            return None


def meeting_place() -> Path:
    """A new directory for the sockets of this process's workers, there until it ends.

    Raises `ZooError` where the system has no Unix sockets, as Windows.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ZooError(
            "ZOO_WORKERS must be 1 here: several workers need Unix sockets, which this system lacks"
        )
    directory = Path(tempfile.mkdtemp(prefix="zoo-workers-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
