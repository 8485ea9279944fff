"""The media type of a V2 request. The protocol's examples leave it out, and `curl -d` then declares a form.

A web page may send a form, or bytes of no type, to any service without asking it first. Its browser then adds
an `Origin`, which programs do not send.
"""

import re
from codecs import BOM_UTF8

from serving.exchange import JSON, Exchange
from serving.memory import Body
from serving.problem import Problem

FORM = b"application/x-www-form-urlencoded"
OBJECT = re.compile(rb"(?:%b)?[ \t\r\n]*\{" % BOM_UTF8)


def require_media_type(exchange: Exchange, *taken: bytes) -> None:
    """`Problem` 415 where the request declares none of these types, or none at all and has an `Origin`."""
    if b"content-type" in exchange.headers and exchange.media_type not in (FORM, b""):
        if exchange.media_type not in taken:
            raise _not_taken(taken)
    elif b"origin" in exchange.headers:
        raise _not_taken(taken)


def require_object(exchange: Exchange, body: Body) -> None:
    """`Problem` 415 where the body is declared to be a form and is no JSON object either."""
    if exchange.media_type == FORM and not OBJECT.match(body):
        raise _not_taken((JSON,))


def _not_taken(taken: tuple[bytes, ...]) -> Problem:
    accepted = " and ".join(media_type.decode() for media_type in taken)
    return Problem(415, "unsupported_media_type", f"this path takes {accepted}: declare it as Content-Type")
