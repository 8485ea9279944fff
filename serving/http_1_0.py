"""Answers to HTTP/1.0 clients, such as older proxies and load tests (RFC 9112, sections 6.1 and 9.3).

HTTP/1.0 has no chunked coding: an answer without a Content-Length ends when the connection is closed. The
connection is closed after an answer unless the client asks to keep it open.
"""

import weakref

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class OldAnswer:
    """Sends the answer of one of uvicorn's cycles without chunked coding."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = weakref.ref(cycle)  # weak, as the cycle refers to this object
        self._has_length = True

    async def send(self, message: ASGISendEvent) -> None:
        """Sends an ASGI message of the answer."""
        cycle = self._cycle()
        if cycle is None:
            return  # nobody is there to read it
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            self._has_length = b"content-length" in names
            if not self._has_length:
                cycle.chunked_encoding = False
                cycle.keep_alive = False
            elif cycle.keep_alive and b"connection" not in names:
                message["headers"] = [*headers, (b"connection", b"keep-alive")]
        elif message["type"] == "http.response.body" and not self._has_length:
            cycle.expected_content_length = len(message.get("body", b""))  # uvicorn sends no more
        await RequestResponseCycle.send(cycle, message)
