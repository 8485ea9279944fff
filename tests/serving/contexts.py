"""Contexts of requests that come from no connection."""

import time
from collections.abc import Awaitable, Callable

from serving.context import Receive, RequestContext
from serving.timing import Timing


def due_in(seconds: float, timing: Timing | None = None, receive: Receive | None = None) -> RequestContext:
    """A request whose answer is due so many seconds from now."""
    deadline = time.monotonic() + seconds
    return RequestContext(deadline, Timing() if timing is None else timing, receive)


def leaving(wait: Callable[[], Awaitable[None]]) -> Receive:
    """A connection whose client leaves once `wait` returns."""

    async def receive() -> dict[str, str]:
        await wait()
        return {"type": "http.disconnect"}

    return receive
