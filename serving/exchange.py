"""HTTP request and its answer: limits, content codings, request ids and deadlines, common to all dialects."""

import asyncio
import math
import re
import time
import types
import zlib
from collections.abc import Awaitable, Coroutine, Generator, Mapping
from functools import partial
from random import getrandbits
from typing import Any, TypeVar

from starlette.types import Message, Receive, Scope, Send

from serving.context import RequestContext
from serving.header_lines import MAX_ITEMS, items, joined, repeated
from serving.memory import Body, MemoryBudget
from serving.problem import Dialect, Problem, problem_json
from serving.timing import Timing
from serving.turns import Turns
from serving.whole_answer import send_whole

T = TypeVar("T")

MAX_BODY = 33_554_432  # bytes, both as sent and decompressed
SMALL_BODY = 16_384
"""Maximum bytes of a request or answer that the event loop processes itself; larger ones go to a thread."""
MAX_MEMBERS = 16_384
"""Maximum number of members in a gzip body, each of which takes microseconds, however short it is."""
MEMBER_PIECE = 256  # bytes inflated first of every gzip member but the first
COMPRESS_FROM = 1024  # bytes; compressing less does not save a packet

DEADLINE = "zoo.deadline"
"""Scope key of the request's deadline, for the connection, which waits until the answer is read."""
KEY = b"x-request-key"
KEY_BYTES = 4096  # of each end of a body
NANOSECONDS = 1e9  # in a second
JSON = b"application/json"
TENSORS = b"application/octet-stream"
TEXT = b"text/plain; charset=utf-8"
HTML, CSS = b"text/html; charset=utf-8", b"text/css; charset=utf-8"
JAVASCRIPT = b"text/javascript; charset=utf-8"
COMPRESSED = frozenset({JSON, TENSORS, b"text/html", b"text/css", b"text/javascript", b"text/plain"})
"""Media types of answers that are worth compressing, unlike images."""
SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
GZIP, ZLIB, RAW_DEFLATE = 31, 15, -15  # window bits of zlib
CODINGS = {b"gzip": GZIP, b"x-gzip": GZIP, b"deflate": ZLIB}
NO_CODING = (b"", b"identity")  # in a list of codings; the empty one stands between two commas
DEFLATE_RATIO = 1032  # maximum expansion: 258 bytes from two bits (RFC 1951)
FASTEST = 1  # compression level: 3/4 of the saving in 1/5 of the time


class Exchange:
    """HTTP request that is being answered."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, budget: MemoryBudget | None = None
    ) -> None:
        """`budget` limits the memory for the bodies of all exchanges."""
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.dialect = dialect_of(self.path)
        lines = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(lines)
        self.common_fields: tuple[tuple[bytes, bytes], ...] = ()
        """Header fields that are added to any answer."""
        self.repeated_header: str | None = None
        """Name of a single-valued header that was sent on two lines; None if there is none."""
        if len(self.headers) < len(lines):
            self.headers, self.repeated_header = joined(lines), repeated(lines)
        given_id = self.headers.get(b"x-request-id", b"")
        self.request_id = given_id if given_id and SANE_ID.fullmatch(given_id) else new_request_id()
        self.begun = time.monotonic_ns()
        # Not the exchange's own method: a reference to the exchange would keep it and its body in memory.
        self.context = RequestContext(receive=receive, budget=budget)
        self.status = 0
        """Status of the answer; 0 until it has begun."""
        self.complete = False
        """True if the answer was sent completely."""
        self.bytes_in = 0
        """Length of the body in bytes, as sent."""
        self.bytes_out = 0
        self.receive = receive
        self._send = send

    @property
    def timing(self) -> Timing:
        """Times and counts of the request."""
        return self.context.timing

    @property
    def outcome(self) -> int:
        """Status of the answer; 0 if it was not sent completely."""
        return self.status if self.complete else 0

    @property
    def media_type(self) -> bytes:
        """Media type of the body in lower case, without parameters; JSON if the request names none."""
        return self.headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()

    def preferred(self, offered: tuple[str, ...]) -> str:
        """Returns the offered media type that the client prefers; the first one if several are equal.

        A client that accepts none of them gets the first one, too.
        """
        weights = weighted(self.headers.get(b"accept", b""))

        def weight(media_type: str) -> float:
            ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
            return next((weights[r.encode()] for r in ranges if r.encode() in weights), 0.0)

        return max(offered, key=weight)

    def limit(self, longest: float) -> RequestContext:
        """Sets the deadline to `longest` seconds after the request began, and returns its context.

        `X-Request-Timeout` (seconds) may shorten it. Raises `Problem` 400 if it is not a number of seconds.
        """
        seconds = longest
        asked = self.headers.get(b"x-request-timeout")
        if asked is not None:
            try:
                seconds = float(asked)
            except ValueError:
                seconds = math.nan
            if not 0 <= seconds < math.inf:
                raise Problem(400, "bad_header", "X-Request-Timeout: expected a number of seconds")
        self.context.deadline = self.scope[DEADLINE] = self.begun / NANOSECONDS + min(longest, seconds)
        return self.context

    async def body(self, turns: Turns) -> Body:
        """Reads the request's body and returns it decompressed.

        Raises `Problem` 413 if it exceeds MAX_BODY, 415 for an unknown coding, 400 if it is incomplete or
        does not match its coding, and 504 if it does not arrive by the deadline; `Overloaded` if there is
        no memory for it.
        """
        coding = self._coding()
        context = self.context
        length = int(self.headers.get(b"content-length", b"0"))
        if length > MAX_BODY:
            raise too_large()
        context.reserve(length)
        reading = self._read(length)
        try:
            waiting = reading.send(None)
        except StopIteration as read:  # nearly always: the body is there already and needs no timer
            data: Body = read.value
        else:
            data = await self._in_time(started(reading, waiting))
        self.bytes_in = len(data)
        if coding is not None and data:
            work = partial(context.timing.measured, "decode", partial(inflated, context, data, coding))
            data = await turns.offload(work, context)
        context.key = self.headers.get(KEY) or digest_key(data)
        return data

    async def answer(
        self,
        status: int,
        body: bytes,
        media_type: bytes = JSON,
        headers: Mapping[str, str] | None = None,
        may_shrink: bool = True,
    ) -> None:
        """Sends the answer, compressed if `may_shrink`, the client accepts it and it is worthwhile."""
        fields = [(b"content-type", media_type), (b"x-request-id", self.request_id), *self.common_fields]
        if headers:
            fields += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        if may_shrink and len(body) >= COMPRESS_FROM and media_type.partition(b";")[0] in COMPRESSED:
            fields.append((b"vary", b"accept-encoding"))
            coding = accepted_coding(self.headers.get(b"accept-encoding", b""))
            if coding is not None:
                fields.append((b"content-encoding", coding))
                shrink = partial(compress, body, coding)
                body = shrink() if len(body) <= SMALL_BODY else await asyncio.to_thread(shrink)
        fields.append((b"content-length", str(len(body)).encode()))
        self.status, self.bytes_out = status, len(body)
        if headers or not send_whole(self._send, status, fields, body):
            await self._send({"type": "http.response.start", "status": status, "headers": fields})
            await self._send({"type": "http.response.body", "body": body})
        self.complete = True

    async def send(self, message: Message) -> None:
        """Sends an ASGI message of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.common_fields]
        else:
            self.bytes_out += len(message.get("body", b""))
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True

    async def refuse(self, problem: Problem) -> None:
        """Answers with a problem, in the format of the path's dialect."""
        body = problem_json(self.dialect, problem, self.request_id)
        await self.answer(problem.status, body, headers=problem.headers, may_shrink=False)

    async def _in_time(self, reading: Awaitable[Body]) -> Body:
        try:
            async with asyncio.timeout(max(0.0, self.context.deadline - time.monotonic())):
                return await reading
        except TimeoutError:
            raise Problem(504, "deadline_exceeded", "the body did not arrive within the deadline") from None

    def _coding(self) -> bytes | None:
        """Returns the body's content coding. Raises `Problem` 415 if it is unknown or there are several."""
        listed = self.headers.get(b"content-encoding")
        if listed is None:
            return None
        codings = [name for name in items(listed.lower()) if name not in NO_CODING]
        too_many = len(codings) > 1 or listed.count(b",") >= MAX_ITEMS
        if too_many or not CODINGS.keys() >= set(codings):
            message = "Content-Encoding: gzip and deflate are understood, one of them at a time"
            raise Problem(415, "unsupported_coding", message, {"Accept-Encoding": "gzip, deflate"})
        return codings[0] if codings else None

    async def _read(self, length: int) -> Body:
        """Reads the body as it was sent; memory for `length` bytes must already be reserved."""
        message = await self.receive()
        if not message.get("more_body", False) and message["type"] == "http.request":
            whole: bytes = message.get("body", b"")  # nearly always: one message has it all
            if len(whole) > MAX_BODY:
                raise too_large()
            return whole
        # One growing array that is not copied at the end: copying 32 MB would block the event loop.
        # Not a list: chunks may be single bytes, each of which would take fifty bytes.
        body = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise Problem(400, "incomplete_body", "the client left before its request was complete")
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                raise too_large()
            if len(body) > length:  # chunked: doubles, so that there are few reservations
                self.context.reserve(len(body))
                length += len(body)
            if not message.get("more_body", False):
                return body
            message = await self.receive()


@types.coroutine
def started(coroutine: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Awaits the rest of a coroutine whose first `send` returned the future `waiting`."""
    while True:
        try:
            try:
                sent = yield waiting
            except BaseException as error:  # for example a cancellation
                waiting = coroutine.throw(error)
            else:
                waiting = coroutine.send(sent)
        except StopIteration as ended:
            result: T = ended.value
            return result


def new_request_id() -> bytes:
    """Returns an id for a request that has none."""
    return b"%032x" % getrandbits(128)  # not a secret, so no system call for better randomness


def digest_key(body: Body) -> bytes:
    """Returns a key from a body's length and both ends, as hashing 32 MB would take too long."""
    if len(body) <= 2 * KEY_BYTES:
        return bytes(body)
    return len(body).to_bytes(8) + bytes(body[:KEY_BYTES]) + bytes(body[-KEY_BYTES:])


def dialect_of(path: str) -> Dialect:
    """Returns the dialect that a path belongs to."""
    if path.startswith("/v2/") or path == "/v2":
        return "v2"
    return "openai" if path.startswith("/v1/") else "zoo"


def inflated(context: RequestContext, data: Body, coding: bytes) -> bytes:
    """Decompresses data within the memory budget of its request. Raises `Problem` as `Exchange.body` does."""
    most = min(2 * MAX_BODY, DEFLATE_RATIO * len(data))  # twice, as gzip members are joined
    context.reserve(most)
    plain = decompress(data, coding)
    context.give_back(most - len(plain))
    return plain


def decompress(data: Body, coding: bytes) -> bytes:
    """Decompresses data to at most MAX_BODY bytes. Raises `Problem` as `Exchange.body` does."""
    window = CODINGS[coding]
    if window == GZIP:
        return _gunzip(data)
    if not _has_zlib_header(data):
        window = RAW_DEFLATE  # several clients send this as "deflate"
    stream = zlib.decompressobj(window)
    try:
        plain = stream.decompress(data, MAX_BODY + 1)
    except zlib.error:
        raise _bad_coding() from None
    if len(plain) > MAX_BODY:
        raise too_large()
    if not stream.eof or stream.unused_data:
        raise _bad_coding()
    return plain


def _gunzip(data: Body) -> bytes:
    """Decompresses and joins the members of a gzip body (RFC 1952, section 2.2), nearly always one."""
    rest, room = memoryview(data), MAX_BODY
    parts: list[bytes] = []
    members, size = 0, len(data)
    while rest or not members:
        members += 1
        if members > MAX_MEMBERS:
            raise Problem(413, "too_large", f"the gzip body has over {MAX_MEMBERS:,} members")
        stream = zlib.decompressobj(GZIP)
        while not stream.eof:
            if not rest:
                raise _bad_coding()
            try:
                parts.append(stream.decompress(rest[:size], room + 1))
            except zlib.error:
                raise _bad_coding() from None
            room -= len(parts[-1])
            if room < 0:
                raise too_large()
            rest = rest[len(rest[:size]) - len(stream.unused_data) :]
            size *= 2
        # zlib copies the data that follows a member in the same piece, so the first pieces are small.
        size = MEMBER_PIECE
    return b"".join(parts)


def compress(data: bytes, coding: bytes) -> bytes:
    """Compresses data with a coding of CODINGS."""
    stream = zlib.compressobj(FASTEST, wbits=CODINGS[coding])
    return stream.compress(data) + stream.flush()


def accepted_coding(accept: bytes) -> bytes | None:
    """Returns the supported coding that an Accept-Encoding header prefers; None if it accepts none."""
    weights = weighted(accept)
    everything = weights.get(b"*", 0.0)
    best = max((b"gzip", b"deflate"), key=lambda coding: weights.get(coding, everything))
    return best if weights.get(best, everything) > 0 else None


def weighted(header: bytes) -> dict[bytes, float]:
    """Parses a header such as Accept into its items and their weights; an invalid weight counts as 0."""
    weights = {}
    for item in items(header.lower()):
        name, *parameters = items(item, b";")
        given = next((p[2:] for p in parameters if p.startswith(b"q=")), b"1")
        try:
            weight = float(given)
        except ValueError:
            weight = 0.0
        weights[name] = weight if 0 <= weight <= 1 else 0.0
    return weights


def _has_zlib_header(data: Body) -> bool:
    # RFC 1950: method 8 in the low bits, and the first two bytes divisible by 31.
    return len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0


def _bad_coding() -> Problem:
    return Problem(400, "bad_coding", "the body is not what its Content-Encoding says, or cut short")


def too_large() -> Problem:
    """Problem for a body that exceeds MAX_BODY."""
    return Problem(413, "too_large", f"the body is over {MAX_BODY:,} bytes")
