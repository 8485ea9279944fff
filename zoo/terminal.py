"""Makes text from others safe to print on a terminal, which would obey its control characters."""

import re
import sys
from typing import IO, Any

CONTROL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0, DEL and C1; tab and newline stay
    "\u202a-\u202e\u2066-\u2069"  # bidirectional controls, which reorder the text around them
    "]"
)


def printable(value: Any, stream: IO[str] | None = None) -> Any:
    """Returns a JSON value without control characters if the stream is a terminal, else unchanged.

    The stream is the standard output unless another one is given.
    """
    output = sys.stdout if stream is None else stream
    return _cleaned(value) if output.isatty() else value


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return CONTROL.sub("", value)
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return value
