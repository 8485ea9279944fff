"""A server in one process, with a probe of its event loop: the service, or the bare one of a graph.

    ZOO_HOME=HOME python -m tests.benchmarks.probed PORT [GRAPH]

The probe wants to run each millisecond, and notes how late it comes: so long was something else computed in
one go, or the machine was doing something else. A line on stdin asks for the longest pause since the last
line, in milliseconds; it goes to stdout.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.application import Application
from serving.connection import BoundedConnection
from serving.settings import Settings
from tests.benchmarks import bare

TICK_SECONDS = 0.001


class Probe:
    """An application that lives as long as the server, and notes pauses of its event loop."""

    def __init__(self) -> None:
        self._longest = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lives; there is nothing but the lifespan."""
        await receive()
        tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._tell())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tick(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.perf_counter()
            self._longest = max(self._longest, now - last - TICK_SECONDS)
            last = now

    async def _tell(self) -> None:
        while await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(f"{1000 * self._longest:.2f}\n")
            sys.stdout.flush()
            self._longest = 0.0


def beside(probe: Probe, app: ASGIApp) -> ASGIApp:
    """An application whose lifespan is the probe's."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        await (probe if scope["type"] == "lifespan" else app)(scope, receive, send)

    return both


def main(port: int, graph: Path | None) -> None:
    """Serves until the process is ended."""
    if graph is None:
        app: ASGIApp = Application(Probe(), Settings.from_environment(os.environ))
    else:
        app = beside(Probe(), bare.application(str(graph)))
    http = BoundedConnection if graph is None else "httptools"
    uvicorn.run(app, port=port, loop="uvloop", http=http, access_log=False, log_level="critical")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
