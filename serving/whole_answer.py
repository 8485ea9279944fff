"""Sends a complete answer to uvicorn's connection in one piece.

uvicorn takes head and body as two messages and checks each header, which for a small answer takes 4.5 of its
21 microseconds per request. Here the headers are known to be valid. The code uses attributes of
`RequestResponseCycle` as of uvicorn 0.54; a test compares its output with uvicorn's.
"""

from collections.abc import Sequence

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Fields = Sequence[tuple[bytes, bytes]]


class DefaultFields:
    """Cache of uvicorn's default headers as they are sent; uvicorn creates new ones each second."""

    def __init__(self) -> None:
        self._fields: Fields | None = None
        self._rendered = b""

    def render(self, fields: Fields) -> bytes:
        """Returns the header lines."""
        if fields is not self._fields:
            self._fields, self._rendered = fields, rendered(fields)
        return self._rendered


DEFAULT_FIELDS = DefaultFields()


def send_whole(send: Send, status: int, fields: Fields, body: bytes) -> bool:
    """Sends an answer; returns False if it needs ASGI messages, as on other connections than uvicorn's.

    `fields` are names in lower case and values without line breaks, with the body's Content-Length and
    without a Connection.
    """
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected:
        return False
    if cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
        return False
    ends = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
    defaults = DEFAULT_FIELDS.render(cycle.default_headers)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join((STATUS_LINE[status], defaults, rendered(fields), ends, body)))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def rendered(fields: Fields) -> bytes:
    """Returns header lines as they are sent."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])
