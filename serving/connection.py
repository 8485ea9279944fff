"""An HTTP connection that is closed where a client sends too much of a request, or takes too long to.

uvicorn waits for the head of a request as long as it takes, keeps whatever comes of it, and reads on where
a request was refused before its end. How long a body may take is the request's deadline, which
`serving.exchange` keeps.

The connection speaks HTTP/1.1 and no other protocol: it ignores an offer to upgrade (RFC 9110, section 7.8).
"""

from asyncio import BaseTransport, TimerHandle
from collections import deque
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving import http_1_0
from serving.exchange import JSON, MAX_BODY, new_request_id, too_large
from serving.problem import Problem, problem_json
from serving.settings import Settings
from serving.whole_answer import rendered

PATIENCE = 10.0
"""Seconds for the head of a request, from the connection or from the head's first bytes, and for what is
left of a request that is answered."""
MAX_HEAD = 65_536  # bytes of a request line and its headers
MAX_MESSAGE = 2 * MAX_BODY  # bytes of a request as it is sent: small chunks are mostly framing

NO_TRAILERS: Any = deque(maxlen=0)
"""Where uvicorn collects what comes as headers behind a body, and nobody reads."""


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with bounds."""

    keep_alive: ClassVar[float] = Settings.model_fields["keep_alive"].default
    """Seconds after an answer until an idle connection is closed. `serving.service` sets it."""
    _received = 0
    """Bytes since the last request was complete."""
    _timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn wants a Transport
        self.timeout_keep_alive = self.keep_alive  # type: ignore[assignment]  # any number of seconds will do
        self.access_log = False  # ours is `serving.access_log`; uvicorn would make a line that nobody reads
        self._await_head()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # `_parse` declines
        self._stop_timer()
        super().on_headers_complete()
        if self.scope["http_version"] in http_1_0.VERSIONS:
            self._answer_in_http_1_0()
        self.headers = NO_TRAILERS

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._received = 0
        if self.cycle.response_complete:  # the rest of a request that was refused before its end
            self.cycle.more_body = False
            self._stop_timer()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self._end(Problem(400, "malformed_http", "this is no HTTP request"))
            return
        cycle = self.cycle
        working = cycle is not None and not cycle.response_complete
        if working and self._received <= MAX_HEAD:
            return  # nearly always
        if self._in_head() and self._received > MAX_HEAD:
            self._end(Problem(431, "head_too_large", f"the request's head is over {MAX_HEAD:,} bytes"))
        elif self._received > MAX_MESSAGE:
            self._end(too_large())
        elif not working and self._is_idle():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.keep_alive, self.timeout_keep_alive_handler
            )
        elif not working and self._timer is None:
            self._await_head()

    def _parse(self, data: bytes) -> None:
        """Parses data, with every offer to upgrade declined.

        A parser takes an offer for the end of HTTP: it ends the message behind the head and stops there. A
        new parser then gets the same head without the offer, and goes on with the data behind it.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as offer:
                if self.parser.get_method() == b"CONNECT":  # there is no way to ignore this one
                    raise HttpParserError("CONNECT is for proxies") from None
                rest = rest[offer.args[0] :]
                head = self._head_without_offer()
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(fields))

    def _answer_in_http_1_0(self) -> None:
        cycle = self.cycle
        framed = all(name != b"transfer-encoding" for name, _ in self.headers)  # HTTP/1.0 has no chunks
        cycle.keep_alive = framed and self.parser.should_keep_alive()
        cycle.waiting_for_100_continue = False
        cycle.send = http_1_0.OldAnswer(cycle).send  # type: ignore[method-assign]

    def _in_head(self) -> bool:
        return self.cycle is None or not self.cycle.more_body

    def _is_idle(self) -> bool:
        """Returns True between two requests."""
        return self.headers is NO_TRAILERS and not self.cycle.more_body

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(PATIENCE, self._lose_patience)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
    """Returns a complete answer in the zoo's own dialect, as the path may not be known yet."""
    request_id = new_request_id()
    body = problem_json("zoo", problem, request_id)
    fields = [
        *headers,
        (b"content-type", JSON),
        (b"x-request-id", request_id),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    return STATUS_LINE[problem.status] + rendered(fields) + b"\r\n" + body
