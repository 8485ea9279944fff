"""Announces memory before it is taken, so that a server can refuse a request instead of running out of it."""

from collections.abc import Callable
from contextvars import ContextVar

_reserve: ContextVar[Callable[[int], None] | None] = ContextVar("reserve", default=None)


def reserve(size: int) -> None:
    """Announces that `size` bytes are about to be allocated; raises the error of the server's callback.

    Long computations call it with 0 from time to time, so that the server can end abandoned requests.
    """
    if (grant := _reserve.get()) is not None:
        grant(size)


class Reserving:
    """Context manager that calls `grant` for each `reserve` in its context.

    A class, since a generator with `contextmanager` is noticeably slower for small requests.
    """

    __slots__ = ("_grant", "_token")

    def __init__(self, grant: Callable[[int], None]) -> None:
        self._grant = grant

    def __enter__(self) -> None:
        self._token = _reserve.set(self._grant)

    def __exit__(self, *_: object) -> None:
        _reserve.reset(self._token)
