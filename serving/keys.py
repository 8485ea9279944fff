"""API keys, sent as bearer tokens in the Authorization header (RFC 6750)."""

from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from serving.problem import Problem


class ApiKeys:
    """Accepted keys, as digests of equal length, so that the comparison's time reveals nothing."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, authorization: bytes) -> bytes:
        """Returns the digest of the header's key. Raises `Problem` 401 if it is missing, 403 if wrong."""
        scheme, _, credentials = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not credentials.strip():
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "unauthorized", "this needs an API key: Authorization: Bearer KEY", challenge)
        digest = sha256(credentials.strip()).digest()
        # The sum compares all keys, so that its time does not reveal which one matched.
        if not sum(compare_digest(digest, known) for known in self._digests):
            raise Problem(403, "forbidden", "this API key is not one that the service knows")
        return digest
