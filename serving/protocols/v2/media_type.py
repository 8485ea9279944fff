"""Check of the media type of a V2 request.

The protocol's examples set no media type, and `curl -d` then declares a form, so both are accepted. But a web
page may send a form, or bytes without a type, to any service without a CORS preflight. Its browser then adds
an `Origin` header, which programs do not send.
"""

import re
from codecs import BOM_UTF8

from serving.exchange import JSON, Exchange
from serving.memory import Body
from serving.problem import Problem

FORM = b"application/x-www-form-urlencoded"
OBJECT = re.compile(rb"(?:%b)?[ \t\r\n]*\{" % BOM_UTF8)


def require_media_type(exchange: Exchange, *taken: bytes) -> None:
    """Raises `Problem` 415 if a request declares another type, or no type (or a form) and has an `Origin`."""
    if b"content-type" in exchange.headers and exchange.media_type not in (FORM, b""):
        if exchange.media_type not in taken:
            raise _not_taken(taken)
    elif b"origin" in exchange.headers:
        raise _not_taken(taken)


def require_object(exchange: Exchange, body: Body) -> None:
    """Raises `Problem` 415 if the body is declared as a form and does not begin like a JSON object."""
    if exchange.media_type == FORM and not OBJECT.match(body):
        raise _not_taken((JSON,))


def _not_taken(taken: tuple[bytes, ...]) -> Problem:
    accepted = " and ".join(media_type.decode() for media_type in taken)
    return Problem(415, "unsupported_media_type", f"this path takes {accepted}: declare it as Content-Type")
