"""The context of one request: its deadline, its statistics and who waits for it, in every dialect."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.timing import Timing

if TYPE_CHECKING:
    from serving.contest import Contest
    from serving.memory import Lease

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(slots=True)
class RequestContext:
    """What the engine knows of a request. It refers to the connection, and never to the exchange."""

    deadline: float = math.inf
    """Point on `time.monotonic()` by which the answer is due."""
    timing: Timing = field(default_factory=Timing)
    receive: Receive | None = None
    """The connection's ASGI channel, which tells when the client has left; None where nobody can leave."""
    key: bytes = b""
    """Identifies the request in an A/B split: the header `X-Request-Key`, or else the body."""
    memory: "Lease | None" = None
    """Reserved for the request; None where memory is not bounded."""
    contest: "Contest | None" = None
    """The A/B assignment, where the model has a challenger."""

    def reserve(self, size: int) -> None:
        """Reserves so many bytes more; `Overloaded` if that exceeds the budget."""
        if self.memory is not None:
            self.memory.extend(size)


async def client_left(receive: Receive) -> None:
    """Returns once the client has gone; to be awaited after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
