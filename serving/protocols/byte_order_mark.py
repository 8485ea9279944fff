"""Removal of the byte order mark that some programs write before JSON (RFC 8259, section 8.1)."""

from codecs import BOM_UTF8
from typing import TypeVar

T = TypeVar("T", bound=bytes | bytearray | memoryview)


def without_mark(text: T) -> T:
    """Returns the text without its byte order mark, if it has one."""
    return text[len(BOM_UTF8) :] if text[: len(BOM_UTF8)] == BOM_UTF8 else text  # type: ignore[return-value]
