"""The service in one process, with a probe of its event loop.

    ZOO_HOME=HOME python -m tests.benchmarks.probed PORT

The probe wants to run each millisecond, and notes how late it comes: so long was something else computed in
one go. A line on stdin asks for the longest pause since the last line, in milliseconds; it goes to stdout.
"""

import asyncio
import os
import sys
import time

import uvicorn
from starlette.types import Receive, Scope, Send

from serving.application import Application
from serving.connection import BoundedConnection
from serving.settings import Settings

TICK_SECONDS = 0.001


class Probe:
    """The longest pause of the event loop that it runs on."""

    def __init__(self) -> None:
        self._longest = 0.0

    async def tick(self) -> None:
        """Notes pauses until it is cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.perf_counter()
            self._longest = max(self._longest, now - last - TICK_SECONDS)
            last = now

    async def tell(self) -> None:
        """Answers on stdout to each line of stdin."""
        while await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(f"{1000 * self._longest:.2f}\n")
            sys.stdout.flush()
            self._longest = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lives as long as the server, in place of BentoML's application."""
        await receive()
        tasks = [asyncio.create_task(self.tick()), asyncio.create_task(self.tell())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    service = Application(Probe(), Settings.from_environment(os.environ))
    uvicorn.run(
        service, port=int(sys.argv[1]), loop="uvloop", http=BoundedConnection, access_log=False,
        log_level="warning",
    )  # fmt: skip
