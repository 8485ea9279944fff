"""The event loop where uvloop is not installed, as on Windows."""

import asyncio
from collections.abc import Callable


def selector_loop(use_subprocess: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:  # noqa: ARG001  # uvicorn passes it
    """Makes event loops that listen on a socket of another process, which is how BentoML hands over its port.

    On Windows uvicorn would take asyncio's proactor loop, which cannot.
    """
    return asyncio.SelectorEventLoop
