"""API keys: who may use the service (RFC 6750, bearer tokens in the Authorization header)."""

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from serving.problem import Problem


class ApiKeys:
    """The keys that are accepted, as digests: of equal length, so that comparing tells nothing."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, authorization: bytes) -> bytes:
        """The digest of an `Authorization` header's key; problems: 401 where it has none, 403 a wrong one."""
        scheme, _, credentials = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not credentials.strip():
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "unauthorized", "this needs an API key: Authorization: Bearer KEY", challenge)
        digest = sha256(credentials.strip()).digest()
        # The sum looks at every key: the time does not tell at which one it would have stopped.
        if not sum(compare_digest(digest, known) for known in self._digests):
            raise Problem(403, "forbidden", "this API key is not one that the service knows")
        return digest
