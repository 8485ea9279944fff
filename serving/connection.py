"""An HTTP connection that is closed where a client sends too much of a request, or takes too long to.

uvicorn waits for the head of a request as long as it takes, keeps whatever comes of it, and reads on where
a request was refused before its end. How long a body may take is the request's deadline, which
`serving.exchange` keeps.
"""

from asyncio import BaseTransport, TimerHandle
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.exchange import JSON, MAX_BODY, new_request_id, too_large
from serving.problem import Problem, problem_json

PATIENCE = 10.0
"""Seconds for the head of a request, from the connection or from the head's first bytes, and for what is
left of a request that is answered."""
MAX_HEAD = 65_536  # bytes of a request line and its headers
MAX_MESSAGE = 2 * MAX_BODY  # bytes of a request as it is sent: small chunks are mostly framing

NO_TRAILERS: Any = deque(maxlen=0)
"""Where uvicorn collects what comes as headers behind a body, and nobody reads."""


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with bounds."""

    _received = 0
    """Bytes since the last request was complete."""
    _timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn wants a Transport
        self.access_log = False  # ours is `serving.access_log`; uvicorn would make a line that nobody reads
        self._await_head()

    def on_headers_complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # which looks at the headers once more
            self.headers = NO_TRAILERS

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._received = 0

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        cycle = self.cycle
        working = cycle is not None and not cycle.response_complete
        if working and self._received <= MAX_HEAD:
            return  # nearly always
        if self._in_head() and self._received > MAX_HEAD:
            self._end(Problem(431, "head_too_large", f"the request's head is over {MAX_HEAD:,} bytes"))
        elif self._received > MAX_MESSAGE:
            self._end(too_large())
        elif not working and self._timer is None:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where it cannot read what came."""
        self._end(Problem(400, "malformed_http", "this is no HTTP request"))

    def _in_head(self) -> bool:
        return self.cycle is None or not self.cycle.more_body

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(PATIENCE, self._lose_patience)

    def _lose_patience(self) -> None:
        self._end(Problem(408, "head_timeout", f"the request's head did not arrive in {PATIENCE:g} seconds"))

    def _end(self, problem: Problem) -> None:
        """Closes the connection, with an answer where there is room for one: no other was begun."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        answered = cycle is not None and cycle.response_started
        if self._received and (not answered or (cycle.response_complete and self._in_head())):
            self.transport.write(_answer(problem, self.server_state.default_headers))
        self.transport.close()


def _answer(problem: Problem, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole answer, in the shape of the zoo's own dialect: the path may not be known yet."""
    request_id = new_request_id()
    body = problem_json("zoo", problem, request_id)
    fields = [
        *headers,
        (b"content-type", JSON),
        (b"x-request-id", request_id),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = [STATUS_LINE[problem.status], *(b"%b: %b\r\n" % field for field in fields), b"\r\n"]
    return b"".join(lines) + body
