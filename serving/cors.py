"""Cross-origin resource sharing (WHATWG, Fetch, section 3.2): web pages that may use the service."""

from collections.abc import Iterable

from serving.catalogue import lineage_header
from serving.exchange import Exchange
from zoo.tasks.base import Lineage

METRICS = "/metrics"
"""Path that no page of another site may read, and that can be exempted from API keys."""
EXPOSED = ", ".join(["X-Request-Id", *map(lineage_header, Lineage.model_fields)])
REQUEST_HEADERS = (
    "Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, Traceparent, "
    "Tracestate, X-Request-Id, X-Request-Key, X-Request-Timeout, "
    # OpenAI's JavaScript client sends these with every request.
    "OpenAI-Organization, OpenAI-Project, X-Stainless-Arch, X-Stainless-Lang, X-Stainless-OS, "
    "X-Stainless-Package-Version, X-Stainless-Retry-Count, X-Stainless-Runtime, X-Stainless-Runtime-Version, "
    "X-Stainless-Timeout"
)
MAX_AGE = "600"  # seconds for which a browser remembers the answer to a preflight

VARY = (b"vary", b"origin")


class Cors:
    """CORS header fields for the pages of the allowed origins."""

    def __init__(self, origins: Iterable[str]) -> None:
        """`origins` are the allowed origins, compared exactly."""
        exposed = (b"access-control-expose-headers", EXPOSED.encode())
        self._fields = {
            origin.encode(): (VARY, (b"access-control-allow-origin", origin.encode()), exposed)
            for origin in origins
        }

    def fields(self, exchange: Exchange) -> tuple[tuple[bytes, bytes], ...]:
        """Returns the fields to add to every answer to a request, errors included."""
        if exchange.path == METRICS:
            return ()
        return self._fields.get(exchange.headers.get(b"origin", b""), (VARY,))

    def lists(self, origin: bytes) -> bool:
        """Returns True if pages of the origin may use the service."""
        return origin in self._fields

    def asked_method(self, exchange: Exchange) -> str | None:
        """Returns the method that a preflight asks for; None for other requests and unlisted origins."""
        if exchange.method != "OPTIONS" or exchange.path == METRICS:
            return None
        if not self.lists(exchange.headers.get(b"origin", b"")):
            return None
        method = exchange.headers.get(b"access-control-request-method")
        return None if method is None else method.decode("latin-1")


def permission(method: str) -> dict[str, str]:
    """Returns the headers of the answer to a preflight that is granted."""
    return {
        "Access-Control-Allow-Methods": method,
        "Access-Control-Allow-Headers": REQUEST_HEADERS,
        "Access-Control-Max-Age": MAX_AGE,
    }
