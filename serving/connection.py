"""HTTP connection that is closed if a client sends too large a request, or sends it too slowly.

uvicorn waits for the head of a request without a time limit, buffers it without a size limit, and keeps
reading a request that was refused before its end. The time for a body is limited by the request's deadline,
which `serving.exchange` enforces.

The connection speaks HTTP/1.1 and no other protocol: it ignores an offer to upgrade (RFC 9110, section 7.8).
"""

from asyncio import BaseTransport, TimerHandle
from collections import deque
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving import http_1_0
from serving.door import unknown_transfer_coding
from serving.exchange import JSON, MAX_BODY, new_request_id, too_large
from serving.open_connections import OpenConnections
from serving.problem import Problem, problem_json
from serving.refusals import Refusals
from serving.settings import Settings
from serving.whole_answer import rendered

PATIENCE = 10.0
"""Seconds for the head of a request, from the connection's start or the head's first bytes, and for the rest
of a request that was answered before its end."""
MAX_HEAD = 65_536  # bytes of a request line and its headers
MAX_FIELDS = 128  # headers of a request; browsers and proxies together send 30
PIECE = 16_384
"""Bytes of a head that are parsed in one call: up to 4,000 headers without a value, which take 2 ms."""
VERSIONS = ("1.1", "1.0")
MAX_ESCAPES = 1024
"""Maximum number of `%XX` escapes in a path, each of which takes half a microsecond. A model's name has at
most 128 characters."""
MAX_MESSAGE = 2 * MAX_BODY  # bytes of a request as sent: small chunks are mostly framing

UNKNOWN_VERSION = ("Invalid HTTP version", "Pause on PRI/Upgrade")
"""Error messages of the parser; it gives the second one for the first line of HTTP/2."""

NO_TRAILERS: Any = deque(maxlen=0)
"""Discards trailers (headers after a body), which uvicorn would collect and nobody reads."""


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with limits on size and time."""

    keep_alive: ClassVar[float] = Settings.model_fields["keep_alive"].default
    """Seconds from an answer until an idle connection is closed. `serving.service` sets these three."""
    all_open: ClassVar[OpenConnections] = OpenConnections(Settings())
    refusals: ClassVar[Refusals] = Refusals()
    _received = 0
    """Bytes received since the last complete request."""
    _timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn wants a Transport
        if not self.all_open.add(self):
            self.transport.abort()
            return
        self.timeout_keep_alive = self.keep_alive  # type: ignore[assignment]  # any number of seconds will do
        self.access_log = False  # `serving.access_log` replaces uvicorn's access log
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.all_open.remove(self)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_FIELDS:
            raise _head_too_large()
        if self.parser.should_upgrade():
            return  # `_parse` declines
        if self.parser.get_http_version() not in VERSIONS:
            raise _unknown_version()
        if len(self.url) > MAX_ESCAPES and self.url.partition(b"?")[0].count(b"%") > MAX_ESCAPES:
            raise Problem(404, "not_found", "nothing answers at this path")
        if b"#" in self.url:
            raise Problem(400, "malformed_http", "the request's URL has a fragment")
        if not self.url.startswith(b"/"):
            self._take_absolute_form()
        self._stop_timer()
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
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
        if len(data) <= PIECE:
            self._receive(data)
            return
        rest = memoryview(data)
        while rest and not self.transport.is_closing():
            size = PIECE if self._in_head() else len(rest)
            self._receive(rest[:size])
            rest = rest[size:]

    def _receive(self, data: bytes | memoryview) -> None:
        self._received += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError as error:
            self._end(_problem_of(error))
            return
        cycle = self.cycle
        working = cycle is not None and not cycle.response_complete
        if working and self._received <= MAX_HEAD:
            return  # nearly always
        if self._in_head() and (self._received > MAX_HEAD or len(self.headers or ()) > MAX_FIELDS):
            self._end(_head_too_large())
        elif self._received > MAX_MESSAGE:
            self._end(too_large())
        elif not working and self._is_idle():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.keep_alive, self.timeout_keep_alive_handler
            )
        elif not working and self._timer is None:
            self._await_head()

    def _parse(self, data: bytes | memoryview) -> None:
        """Parses data and declines every offer to upgrade.

        The parser treats an offer as the end of HTTP: it ends the message after the head and stops there. A
        new parser then gets the same head without the offer, and continues with the data after it.
        """
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            if self.parser.get_method() == b"CONNECT":  # this method cannot be ignored
                raise HttpParserError("CONNECT is for proxies")
            head = self._head_without_offer()
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(fields))

    def _take_absolute_form(self) -> None:
        """Handles a request line with an absolute URL, which overrides `Host` (RFC 9112, section 3.2.2)."""
        url = parse_url(self.url)
        if url.host is None:
            return  # the asterisk form
        if url.schema.lower() not in (b"http", b"https"):
            raise Problem(400, "malformed_http", "the request's URL is of another protocol than HTTP")
        if url.userinfo is not None:
            raise Problem(400, "malformed_http", "the request's URL has a user name in it")
        host = b"[%b]" % url.host if b":" in url.host else url.host
        if url.port is not None:
            host += b":%d" % url.port
        self.headers[:] = [(name, host if name == b"host" else value) for name, value in self.headers]
        self.url = (url.path or b"/") + (b"" if url.query is None else b"?" + url.query)

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
        """Closes the connection; sends the problem first unless another answer is already being sent."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        answered = cycle is not None and cycle.response_started
        if self._received and (not answered or (cycle.response_complete and self._in_head())):
            self.refusals.note(problem, self.client)
            self.transport.write(_answer(problem, self.server_state.default_headers))
        self.transport.close()


def _problem_of(error: HttpParserError) -> Problem:
    """Returns the problem that a callback raised, or the one that the parser's error stands for."""
    if isinstance(error.__context__, Problem):
        return error.__context__
    reason = str(error)
    if reason in UNKNOWN_VERSION:
        return _unknown_version()
    if "Transfer-Encoding" in reason and "Content-Length" not in reason:
        return unknown_transfer_coding()
    return Problem(400, "malformed_http", "this is no HTTP request")


def _head_too_large() -> Problem:
    message = f"the request's head is over {MAX_HEAD:,} bytes or {MAX_FIELDS} headers"
    return Problem(431, "head_too_large", message)


def _unknown_version() -> Problem:
    return Problem(505, "unknown_version", "the service speaks HTTP/1.1 and HTTP/1.0")


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
