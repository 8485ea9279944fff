"""Context of one request in any dialect: its deadline, its timing and the client that waits for it."""

import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.timing import Timing

if TYPE_CHECKING:
    from serving.contest import Contest
    from serving.memory import MemoryBudget

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


INLINE_BYTES = 1 << 20
"""Bytes of decoding memory above which an image is decoded in a thread: 256 x 256 pixels take 2 ms."""


class HoldsUp(Exception):
    """The work would block the event loop for too long."""


@dataclass(slots=True)
class RequestContext:
    """State of one request, shared by the protocols, the inference and the engine.

    The exchange refers to its context, but not the reverse, so that there is no reference cycle.
    """

    deadline: float = math.inf
    """Time by which the answer is due, on `time.monotonic()`."""
    timing: Timing = field(default_factory=Timing)
    receive: Receive | None = None
    """The connection's ASGI channel, which tells when the client has left; None if no client can leave."""
    key: bytes = b""
    """Identifies the request in an A/B split: the header `X-Request-Key`, or else the body."""
    caller: bytes = b""
    """Digest of the request's API key; empty if the service has no keys. Cached prompts of one caller are not
    used for another."""
    budget: "MemoryBudget | None" = None
    """Memory budget that the request reserves from; None if memory is not bounded."""
    reserved: int = 0
    """Bytes reserved from the budget."""
    inline: bool = False
    """True while the event loop itself parses the request or renders its answer."""
    contest: "Contest | None" = None
    """Assignment to champion or challenger; None if the model has no challenger."""

    def reserve(self, size: int) -> None:
        """Reserves `size` more bytes. Raises the errors of `MemoryBudget.reserve`."""
        if self.budget is not None:
            self.budget.reserve(size, self.reserved)
            self.reserved += size

    def reserve_decoded(self, size: int) -> None:
        """Reserves bytes for decoded data.

        Raises `HoldsUp` on the event loop if decoding so much takes too long for it, and `DeadlineExceeded`
        past the deadline.
        """
        if time.monotonic() >= self.deadline:
            from serving.turns import too_late  # which imports this module

            raise too_late()
        if self.inline and size > INLINE_BYTES:
            raise HoldsUp
        self.reserve(size)

    def give_back(self, size: int) -> None:
        """Returns `size` reserved bytes to the budget."""
        if self.budget is not None:
            self.budget.free(size)
            self.reserved -= size

    def free(self) -> None:
        """Returns all reserved bytes to the budget. Further calls have no effect."""
        if self.reserved:
            self.give_back(self.reserved)


async def client_left(receive: Receive) -> None:
    """Waits until the client disconnects. Call it only after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
