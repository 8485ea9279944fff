"""Stop strings in a text that arrives in pieces: text that may yet begin a stop string is held back."""

from collections.abc import Sequence


class StopSearch:
    """Finds the first of several stop strings."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """Adds a piece; returns new text that certainly precedes any stop string."""
        self._held += piece
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            certain, self._held = self._held[: min(places)], ""
            return certain
        unsure = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - unsure
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain

    def rest(self) -> str:
        """Returns the text that was held back, for use when the text ends without a stop string."""
        return self._held


def _overlap(text: str, stop: str) -> int:
    """Returns the number of characters at the end of the text that may begin the stop string."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])),
        0,
    )
