"""Announces memory before it is taken, so that a server can refuse a request instead of running out of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_reserve: ContextVar[Callable[[int], None] | None] = ContextVar("reserve", default=None)


def reserve(size: int) -> None:
    """Announces that `size` bytes are about to be taken; raises what the server in charge raises."""
    if (granted := _reserve.get()) is not None:
        granted(size)


@contextmanager
def reserving(granted: Callable[[int], None]) -> Iterator[None]:
    """Has `granted` asked for the memory of everything that is computed in the block."""
    token = _reserve.set(granted)
    try:
        yield
    finally:
        _reserve.reset(token)
