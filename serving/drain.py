"""The orderly end on SIGTERM: what was begun is finished, what comes later is told so.

The server closes its sockets the moment it sees the signal, and clients would find nobody there. So the
signal is kept from it: while the last answers are computed, and for a while at least, new requests are
answered 503, and whoever asks `/readyz` learns to send them elsewhere. SIGINT, a person's Ctrl+C, is left to
the server.
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

LOOK_SECONDS = 0.05  # between two looks at what is still in flight


class Drain:
    """Whether the service is ending, and how many requests are in flight."""

    def __init__(self, least: float, longest: float) -> None:
        """Seconds for which to refuse requests at least, and to wait for those in flight at most."""
        self.begun = False
        self.in_flight = 0
        self._least = least
        self._longest = longest
        self._task: asyncio.Task[None] | None = None

    def take_over(self) -> None:
        """From now on SIGTERM begins the drain, and the handler that there was comes after it.

        To be called on the event loop; does nothing outside the main thread, where no signals come.
        """
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler) or threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.begin, partial(handler, number, None))

        signal.signal(signal.SIGTERM, begin)

    def begin(self, end: Callable[[], object]) -> None:
        """Begins to refuse requests, and calls `end` when the last answer is out; again changes nothing."""
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
