"""Checks every request before its body is read: its framing, host, origin and API key."""

from serving.authority import authority_of, is_origin_of
from serving.cors import METRICS, Cors
from serving.exchange import Exchange
from serving.keys import ApiKeys
from serving.problem import Problem
from serving.refusals import Refusals
from serving.settings import Settings

OPEN = frozenset({"/livez", "/readyz"})
"""Paths that need no key, so that health checks need no secret."""
OPEN_PREFIX = "/v2/health/"
KNOWN_HOSTS = 64
"""Number of valid `Host` values that are cached. Parsing one takes two microseconds."""
MAX_PATH = 2048  # bytes, as sent; names of models have at most 128 characters
LONGEST_LENGTH = 20  # digits of a Content-Length


class Door:
    """Admits requests or refuses them."""

    def __init__(self, settings: Settings, cors: Cors | None, refusals: Refusals) -> None:
        """`cors` recognizes preflights, which need no key."""
        keys = settings.api_keys
        self._keys = None if keys is None else ApiKeys(keys.get_secret_value().split(","))
        self._open_metrics = settings.open_metrics
        self._hosts = settings.hosts
        self._known: set[bytes | None] = set()
        self._cors = cors
        self._refusals = refusals

    def check(self, exchange: Exchange) -> None:
        """Checks a request, and stores the digest of its API key in its context.

        Raises `Problem` 400 for a malformed head, 421 for a host that is not the service's, 403 for a page of
        another site or a wrong key, 401 if the key is missing, 501 for a transfer coding other than chunked,
        and 404 for a path that is too long or has an escaped slash.
        """
        headers, path = exchange.headers, exchange.scope["raw_path"]
        try:
            if exchange.repeated_header is not None:
                raise Problem(400, "bad_header", f"{exchange.repeated_header}: given on two lines")
            if headers.get(b"host") not in self._known:
                self._require_host(exchange)
            if b"transfer-encoding" in headers and headers[b"transfer-encoding"].lower() != b"chunked":
                raise unknown_transfer_coding()
            if len(headers.get(b"content-length", b"")) > LONGEST_LENGTH:
                raise Problem(400, "bad_header", f"Content-Length: over {LONGEST_LENGTH} digits")
            if (b"origin" in headers or b"sec-fetch-site" in headers) and exchange.method == "POST":
                self._require_origin(headers)
            if self._keys is not None and not self._needs_no_key(exchange):
                exchange.context.caller = self._keys.check(headers.get(b"authorization", b""))
        except Problem as problem:
            self._refusals.note(problem, exchange.scope.get("client"))
            raise
        if len(path) > MAX_PATH or (b"%" in path and b"%2f" in path.lower()):
            # OpenAI's client escapes slashes in names, and expects its own code for an unknown model.
            code = "model_not_found" if path.startswith(b"/v1/models/") else "not_found"
            raise Problem(404, code, "nothing answers at this path")

    def _require_host(self, exchange: Exchange) -> None:
        host = exchange.headers.get(b"host")
        if host is None:
            if exchange.scope["http_version"] == "1.1":
                raise Problem(400, "bad_header", "Host: missing")
            return
        try:
            name = authority_of(host).name
        except ValueError:
            raise Problem(400, "bad_header", "Host: expected a name or an address, and a port") from None
        if self._hosts is not None and name not in self._hosts:
            raise Problem(421, "wrong_host", "the service does not answer to this Host; see ZOO_HOSTS")
        if len(self._known) < KNOWN_HOSTS:
            self._known.add(host)

    def _require_origin(self, headers: dict[bytes, bytes]) -> None:
        """Refuses requests that a browser sends for a page of another site."""
        origin = headers.get(b"origin")
        own = origin is None or is_origin_of(origin, headers.get(b"host", b""))
        if own and headers.get(b"sec-fetch-site", b"").lower() != b"cross-site":
            return
        if origin is None or self._cors is None or not self._cors.lists(origin):
            raise Problem(403, "foreign_origin", "pages of other sites may not ask this; see ZOO_ORIGINS")

    def _needs_no_key(self, exchange: Exchange) -> bool:
        if is_open(exchange.path, self._open_metrics):
            return True
        return self._cors is not None and self._cors.asked_method(exchange) is not None


def is_open(path: str, open_metrics: bool) -> bool:
    """Returns True if the path needs no key even if the service has API keys."""
    return path in OPEN or path.startswith(OPEN_PREFIX) or (open_metrics and path == METRICS)


def unknown_transfer_coding() -> Problem:
    """Problem for a transfer coding other than chunked: the end of the body is unknown."""
    message = "Transfer-Encoding: chunked is understood, and nothing else"
    return Problem(501, "unsupported_transfer_coding", message, {"Connection": "close"})
