"""Headers that come on several lines (RFC 9110, section 5.3): lists, and those with one value."""

from collections.abc import Sequence

ONE_VALUE = frozenset({b"authorization", b"content-length", b"content-type", b"host"})
"""Headers of which a second line may be taken for the first by a proxy, and for the only one by a service."""
MAX_ITEMS = 32
"""Items of a list that are looked at. No client sends as many, and each takes a microsecond."""


def joined(lines: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The values by name; those of several lines are one list."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def items(value: bytes, separator: bytes = b",") -> list[bytes]:
    """The first items of a header's list, without the spaces around them; the rest is ignored."""
    return [item.strip() for item in value.split(separator, MAX_ITEMS)[:MAX_ITEMS]]


def repeated(lines: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The first header with a second line of those that have one value; None where there is none."""
    seen: set[bytes] = set()
    for name, _ in lines:
        if name in ONE_VALUE and name in seen:
            return name.decode().title()
        seen.add(name)
    return None
