"""Headers that are sent on several lines (RFC 9110, section 5.3): lists, and single-valued ones."""

from collections.abc import Sequence

ONE_VALUE = frozenset({b"authorization", b"content-length", b"content-type", b"host"})
"""Single-valued headers: if there are two lines, a proxy may use the first and a service the second."""
MAX_ITEMS = 32
"""Maximum number of list items that are parsed. No client sends as many, and each takes a microsecond."""


def joined(lines: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Returns the values by name; the values of several lines are joined into one list."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def items(value: bytes, separator: bytes = b",") -> list[bytes]:
    """Returns the first MAX_ITEMS items of a header's list, stripped of spaces; ignores the rest."""
    return [item.strip() for item in value.split(separator, MAX_ITEMS)[:MAX_ITEMS]]


def repeated(lines: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Returns the name of the first single-valued header that has a second line; None if there is none."""
    seen: set[bytes] = set()
    for name, _ in lines:
        if name in ONE_VALUE and name in seen:
            return name.decode().title()
        seen.add(name)
    return None
