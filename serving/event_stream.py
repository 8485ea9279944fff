"""Server-sent events: an answer in parts, each sent as soon as it is there (WHATWG, HTML, section 9.2)."""

from collections.abc import Mapping

from serving.exchange import Exchange

EVENTS = b"text/event-stream; charset=utf-8"
"""Without a charset, some clients read any text/* as Latin-1."""
DONE = b"[DONE]"


class EventStream:
    """The events of one answer, whose head is sent with the first of them."""

    def __init__(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._fields = [
            (b"content-type", EVENTS),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would send events on only when it has many
            (b"x-request-id", exchange.request_id),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ]
        self.begun = False

    async def send(self, data: bytes, more: bool = True) -> None:
        """Sends one event, whose data have no line breaks; the last one has no `more` behind it."""
        if not self.begun:
            self.begun = True
            head = {"type": "http.response.start", "status": 200, "headers": self._fields}
            await self._exchange.send(head)
        body = b"data: " + data + b"\n\n"
        await self._exchange.send({"type": "http.response.body", "body": body, "more_body": more})
