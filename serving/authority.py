"""Host names with ports, as in `Host`, `Origin` and request targets (RFC 9110, section 7.2)."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

AUTHORITY = re.compile(rb"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,255}))(?::([0-9]{0,5}))?", re.IGNORECASE)
DEFAULT_PORTS = {b"http": "80", b"https": "443"}


class Authority(NamedTuple):
    """Host name in lower case or IP address, and the port as it was written."""

    name: str
    port: str
    """Empty if none was given."""


@lru_cache(maxsize=64)
def authority_of(text: bytes) -> Authority:
    """Parses `name:port`; drops a dot at the name's end. Raises `ValueError` for any other text."""
    match = AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError("expected a host name")
    address, name, port = (group.decode() for group in match.groups(b""))
    if address:
        try:
            name = IPv6Address(address).compressed
        except AddressValueError:
            raise ValueError("expected an IPv6 address in the brackets") from None
    else:
        name = name.lower().removesuffix(".")
    if not name:
        raise ValueError("expected a host name")
    return Authority(name, port)


def is_origin_of(origin: bytes, host: bytes) -> bool:
    """Returns True if a page of this origin came from this `Host`: both have the same name and port.

    The scheme may differ: behind a proxy that ends TLS, pages come by https and requests by http.
    """
    scheme, _, place = origin.partition(b"://")
    default = DEFAULT_PORTS.get(scheme)
    if default is None:
        return False
    try:
        page, service = authority_of(place), authority_of(host)
    except ValueError:
        return False
    return page.name == service.name and (page.port or default) == (service.port or default)
