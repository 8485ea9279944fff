"""Announces memory before it is taken, so that a server can refuse a request instead of running out of it."""

from collections.abc import Callable
from contextvars import ContextVar

_reserve: ContextVar[Callable[[int], None] | None] = ContextVar("reserve", default=None)


def reserve(size: int) -> None:
    """Announces that `size` bytes are about to be taken; raises what the server in charge raises.

    Long work calls it with 0 now and then, so that the server can end what nobody waits for.
    """
    if (grant := _reserve.get()) is not None:
        grant(size)


class Reserving:
    """Calls `grant` for the memory of everything that is computed in the context.

    A class, since a generator with `contextmanager` is slower, which small requests would notice.
    """

    __slots__ = ("_grant", "_token")

    def __init__(self, grant: Callable[[int], None]) -> None:
        self._grant = grant

    def __enter__(self) -> None:
        self._token = _reserve.set(self._grant)

    def __exit__(self, *_: object) -> None:
        _reserve.reset(self._token)
