"""Bounds the lines that a log gets of one kind, however often what they tell happens."""

import logging
import time
from dataclasses import dataclass

PERIOD_SECONDS = 60.0
MOST_KINDS = 1000  # a caller that formats its messages itself makes a kind of each


@dataclass
class _Window:
    begun: float
    lines: int = 0
    dropped: int = 0


class LogSampling(logging.Filter):
    """Lets so many lines of a kind pass each minute; the next minute's first tells how many more there were.

    Lines are of one kind if their level and their message before formatting are the same. For use with
    `Logger.addFilter`; it sees the lines that are logged with that very logger.
    """

    def __init__(self, lines: int = 5) -> None:
        super().__init__()
        self._lines = lines
        self._windows: dict[tuple[int, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = (record.levelno, str(record.msg)), time.monotonic()
        window = self._windows.get(kind)
        if window is None or now - window.begun > PERIOD_SECONDS:
            if len(self._windows) >= MOST_KINDS:
                self._windows.clear()
            dropped = 0 if window is None else window.dropped
            window = self._windows[kind] = _Window(now)
            if dropped:
                record.msg = f"{record.getMessage()} … and {dropped} more like the last of these"
                record.args = None
        window.lines += 1
        if window.lines <= self._lines:
            return True
        window.dropped += 1
        return False
