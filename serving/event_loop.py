"""Event loop for systems without uvloop, such as Windows."""

import asyncio
from collections.abc import Callable


def selector_loop(use_subprocess: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:  # noqa: ARG001  # uvicorn passes it
    """Returns a factory of event loops that can listen on an inherited socket, as BentoML passes on its port.

    On Windows uvicorn would use asyncio's proactor loop, which cannot.
    """
    return asyncio.SelectorEventLoop
