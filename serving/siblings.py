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

PATIENCE = 1.0  # seconds for which a sibling may not answer
ENDING = "*.sock"


class Siblings:
    """Tells the others its own state, and asks them for theirs."""

    def __init__(self, directory: Path | None, state: Callable[[], bytes]) -> None:
        """Without a directory there are no others."""
        self._directory = directory
        self._state = state
        self._own = None if directory is None else directory / f"{os.getpid()}.sock"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begins to tell, on this event loop."""
        if self._own is not None:
            self._server = await asyncio.start_unix_server(self._tell, self._own)

    def close(self) -> None:
        """Ends that."""
        if self._server is not None and self._own is not None:
            self._server.close()
            self._own.unlink(missing_ok=True)

    def ask(self) -> list[bytes]:
        """The states of the others that answer; waits for them, so not to be called by the event loop."""
        paths = [] if self._directory is None else sorted(self._directory.glob(ENDING))
        states = [_asked(path) for path in paths if path != self._own]
        return [state for state in states if state is not None]

    async def _tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._state())
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
    """A new directory for the sockets of this process's workers, there until it ends."""
    directory = Path(tempfile.mkdtemp(prefix="zoo-workers-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
