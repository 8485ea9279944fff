"""Graceful shutdown on SIGTERM: requests in flight are finished, new ones are answered 503.

The server would close its sockets as soon as it gets the signal, and clients could not connect. So the signal
is withheld from it: until the last answers are sent, and for a minimum time, new requests are answered 503,
and `/readyz` tells load balancers to send them elsewhere. SIGINT (Ctrl+C) is left to the server.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.05  # between two checks of the requests in flight


class Drain:
    """State of the shutdown, and number of requests in flight."""

    def __init__(self, least: float, longest: float) -> None:
        """Refuses requests for at least `least` seconds, and waits at most `longest` for those in flight."""
        self.begun = False
        self.in_flight = 0
        self._least = least
        self._longest = longest
        self._task: asyncio.Task[None] | None = None

    def take_over(self) -> None:
        """Makes SIGTERM begin the drain, after which the previous signal handler is called.

        Call it on the event loop. It does nothing outside the main thread, which alone can handle signals.
        """
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler) or threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.begin, partial(handler, number, None))

        signal.signal(signal.SIGTERM, begin)

    def begin(self, end: Callable[[], object]) -> None:
        """Begins to refuse requests; calls `end` after the last answer. Further calls have no effect."""
        if not self.begun:
            self.begun = True
            log.info("draining: %d requests in flight", self.in_flight)
            self._task = asyncio.get_running_loop().create_task(self._wait(end))

    async def _wait(self, end: Callable[[], object]) -> None:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < self._least or (
            self.in_flight and passed < self._longest
        ):
            await asyncio.sleep(LOOK_SECONDS)
        end()
