"""Server-sent events: an answer in parts, each sent once it is available (WHATWG, HTML, section 9.2)."""

from collections.abc import Mapping

from serving.exchange import Exchange

EVENTS = b"text/event-stream; charset=utf-8"
"""Media type, with a charset because some clients otherwise read any text/* as Latin-1."""
DONE = b"[DONE]"


class EventStream:
    """Event stream of one answer. The answer's head is sent with the first event."""

    def __init__(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._fields = [
            (b"content-type", EVENTS),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # otherwise nginx would buffer events
            (b"x-request-id", exchange.request_id),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ]
        self.begun = False

    async def send(self, data: bytes, more: bool = True) -> None:
        """Sends one event, whose data must have no line breaks; `more` is False for the last one."""
        if not self.begun:
            self.begun = True
            head = {"type": "http.response.start", "status": 200, "headers": self._fields}
            await self._exchange.send(head)
        body = b"data: " + data + b"\n\n"
        await self._exchange.send({"type": "http.response.body", "body": body, "more_body": more})
