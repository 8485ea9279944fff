"""Announces memory before it is taken, so that a server can refuse a request instead of running out of it."""

from collections.abc import Callable
from contextvars import ContextVar

_reserve: ContextVar[Callable[[int], None] | None] = ContextVar("reserve", default=None)


def reserve(size: int) -> None:
    """Announces that `size` bytes are about to be taken; raises what the server in charge raises."""
    if (granted := _reserve.get()) is not None:
        granted(size)


class Reserving:
    """Has `granted` asked for the memory of everything that is computed in the context.

    Not a generator with `contextmanager`, which takes longer than small requests have.
    """

    __slots__ = ("_granted", "_token")

    def __init__(self, granted: Callable[[int], None]) -> None:
        self._granted = granted

    def __enter__(self) -> None:
        self._token = _reserve.set(self._granted)

    def __exit__(self, *_: object) -> None:
        _reserve.reset(self._token)
