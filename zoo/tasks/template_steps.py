"""Steps of a template: a cost of the characters and elements that it reads or makes and of the code it runs.

Each step takes at most some tens of nanoseconds and a byte or two, so the number of steps bounds both.
"""

import sys
from collections.abc import ItemsView, KeysView, Mapping, Sized, ValuesView
from typing import Any

from jinja2.exceptions import SecurityError

MAX_STEPS = 1 << 23  # half a second; as many as 700 messages take in the longest templates in use
STEPS_OF_CODE = 32  # per syntax tree node of the template, or per element: 0.3 microseconds, 56 bytes
STEPS_OF_CALL = 512  # a call may make an object
STEPS_OF_LETTER = 8  # per character whose case is changed: up to 100 ns
STEPS_OF_RANGE = 8  # per integer of a range that is read
STEPS_OF_PIECE = 64  # per piece of a split text: bytes of a short string
SEARCHED = 8  # characters of a sought text that cost a search one more pass over the other text

WALKED = (list, tuple, KeysView, ValuesView, ItemsView)


class Steps:
    """Budget of steps that one rendering has left."""

    def __init__(self) -> None:
        self._left: float = MAX_STEPS

    def take(self, count: float) -> None:
        """Takes `count` steps; raises `SecurityError` if fewer are left."""
        self._left -= count
        if self._left < 0:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")

    def touch(self, value: Any) -> None:
        """Takes the steps of reading a whole value, including all that it contains."""
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                self.take(len(value))
            elif isinstance(value, Mapping):
                self.take(STEPS_OF_CODE * len(value))
                waiting += value.keys()
                waiting += value.values()
            elif isinstance(value, WALKED):
                self.take(STEPS_OF_CODE * len(value))
                waiting += value
            else:
                self.take(STEPS_OF_RANGE * len(value) if isinstance(value, Sized) else 1)

    def keep(self, value: Any) -> None:
        """Takes the steps of making a value: its size in bytes, and those of the elements of a new list."""
        self.take(sys.getsizeof(value))
        if isinstance(value, list):
            self.take(sum(map(sys.getsizeof, value)))

    def search(self, text: str, sought: object) -> None:
        """Takes the steps of searching a text for another."""
        length = len(sought) if isinstance(sought, str) else 0
        self.take(len(text) * (1 + length / SEARCHED))

    def call_method(self, name: str, text: str, arguments: tuple[Any, ...]) -> None:
        """Takes the steps of a string method."""
        sought = next((argument for argument in arguments if isinstance(argument, str)), None)
        match name:
            case "startswith" | "endswith":
                self.touch(arguments)
            case "lower" | "title" | "upper":
                self.take(STEPS_OF_LETTER * len(text))
            case _:
                self.search(text, sought)
        if name in ("split", "rsplit"):
            self.take(STEPS_OF_PIECE * (text.count(sought) if sought else len(text) / 2))
