"""Load on a server: connections that each send one prepared request after the other.

Written on the bare socket, in a process of its own, so that the server is what is measured.
"""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import uvloop

HEAD_END = b"\r\n\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
LAST_ANSWERS = 60.0  # seconds that they may take, where the server is slow
STATUS = slice(9, 12)  # of `HTTP/1.1 200 OK`


@dataclass(frozen=True)
class Load:
    """A request, sent over so many keep-alive connections for so long."""

    port: int
    request: bytes
    connections: int
    seconds: float
    period: float = 0.0
    """Seconds between two requests of a connection; 0 sends the next one as soon as one is answered."""


@dataclass
class Outcome:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Seconds of those answered 200."""
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Requests answered 200, a second."""
        return self.statuses[200] / self.seconds

    @property
    def p99(self) -> float:
        """Seconds that one in a hundred of those answered 200 took longer than."""
        return float(np.percentile(self.latencies, 99))


def post(path: str, body: bytes, media_type: str, *headers: str) -> bytes:
    """A request as it goes over the wire."""
    fields = [f"Content-Type: {media_type}", f"Content-Length: {len(body)}", "Host: 127.0.0.1", *headers]
    return "\r\n".join([f"POST {path} HTTP/1.1", *fields, "", ""]).encode() + body


def drive(load: Load) -> Outcome:
    """Sends the load, and returns once the last answer is there."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(load))


async def _drive(load: Load) -> Outcome:
    loop, outcome, begun = asyncio.get_running_loop(), Outcome(), time.perf_counter()
    ended = []
    for _ in range(load.connections):
        connection = Connection(load, begun + load.seconds, outcome, loop)
        await loop.create_connection(lambda c=connection: c, "127.0.0.1", load.port)
        ended.append(connection.ended)
    async with asyncio.timeout(load.seconds + LAST_ANSWERS):
        await asyncio.gather(*ended)
    outcome.seconds = time.perf_counter() - begun
    return outcome


class Connection(asyncio.Protocol):
    """One request at a time, until the time is over."""

    def __init__(self, load: Load, until: float, outcome: Outcome, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self._load, self._until, self._outcome, self._loop = load, until, outcome, loop
        self._received = bytearray()
        self._sent = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(HEAD_END)
        if head < 0:
            return
        length = CONTENT_LENGTH.search(self._received, 0, head)
        assert length is not None
        if len(self._received) < head + len(HEAD_END) + int(length[1]):
            return
        self._answered(int(self._received[STATUS]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._received or time.perf_counter() < self._until:
            self.ended.set_exception(exc or ConnectionError("the server closed a connection"))
        else:
            self.ended.set_result(None)

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._load.request)

    def _answered(self, status: int) -> None:
        now = time.perf_counter()
        self._outcome.statuses[status] += 1
        if status == 200:
            self._outcome.latencies.append(now - self._sent)
        self._received.clear()
        following = max(now, self._sent + self._load.period)
        if following >= self._until:
            self._until = 0.0  # nothing more is to come
            self._transport.close()
        elif following > now:
            self._loop.call_later(following - now, self._ask)
        else:
            self._ask()
