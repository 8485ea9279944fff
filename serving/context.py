"""The context of one request: its deadline, its statistics and who waits for it, in every dialect."""

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
"""Memory for decoding above which an image is decoded in a thread: one of 256 x 256 pixels takes 2 ms."""


class HoldsUp(Exception):
    """The work would hold up the event loop."""


@dataclass(slots=True)
class RequestContext:
    """State of one request that the protocols, the inference and the engine share.

    The exchange refers to its context. The context does not refer to the exchange, so that the two leave no
    reference cycle.
    """

    deadline: float = math.inf
    """Point on `time.monotonic()` by which the answer is due."""
    timing: Timing = field(default_factory=Timing)
    receive: Receive | None = None
    """The connection's ASGI channel, which tells when the client has left; None where nobody can leave."""
    key: bytes = b""
    """Identifies the request in an A/B split: the header `X-Request-Key`, or else the body."""
    caller: bytes = b""
    """Digest of the API key that the request came with; empty where the service has no keys. What is kept of
    one caller's prompts is not used for another."""
    budget: "MemoryBudget | None" = None
    """Memory budget that the request reserves from; None if memory is not bounded."""
    reserved: int = 0
    """Bytes."""
    inline: bool = False
    """True while the event loop itself parses the request or renders its answer."""
    contest: "Contest | None" = None
    """The A/B assignment, where the model has a challenger."""

    def reserve(self, size: int) -> None:
        """Reserves so many bytes more; errors as of `MemoryBudget.reserve`."""
        if self.budget is not None:
            self.budget.reserve(size, self.reserved)
            self.reserved += size

    def reserve_decoded(self, size: int) -> None:
        """Reserves bytes for what is decoded; `HoldsUp` on the event loop if it takes long to fill them.

        `DeadlineExceeded` past the deadline.
        """
        if time.monotonic() >= self.deadline:
            from serving.turns import too_late  # which imports this module

            raise too_late()
        if self.inline and size > INLINE_BYTES:
            raise HoldsUp
        self.reserve(size)

    def give_back(self, size: int) -> None:
        """Returns some of the memory that is reserved."""
        if self.budget is not None:
            self.budget.free(size)
            self.reserved -= size

    def free(self) -> None:
        """Returns all memory that is reserved; again changes nothing."""
        if self.reserved:
            self.give_back(self.reserved)


async def client_left(receive: Receive) -> None:
    """Returns once the client has gone; to be awaited after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
