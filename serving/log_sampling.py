"""Limits the number of log lines of one kind, however often the event occurs."""

import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass

PERIOD_SECONDS = 60.0
MOST_KINDS = 1000  # a caller that formats messages itself creates one for each


@dataclass
class _Window:
    begun: float
    lines: int = 0
    left_out: int = 0


class LogSampling(logging.Filter):
    """Passes up to `lines` lines of a kind per minute; the first one after that states how many were omitted.

    Lines are of one kind if they have the same level and the same message before formatting. For use with
    `Logger.addFilter`; it only sees lines that are logged with that logger itself.
    """

    def __init__(self, lines: int = 5) -> None:
        super().__init__()
        self._lines = lines
        self._windows: dict[Hashable, _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self.left_out((record.levelno, str(record.msg)))
        if left_out:
            record.msg = f"{record.getMessage()} … and {left_out} more like the last of these"
            record.args = None
        return left_out is not None

    def left_out(self, kind: Hashable) -> int | None:
        """Counts a line of a kind; returns None if it is to be left out, too.

        Otherwise returns the number of omitted lines that no line has stated yet.
        """
        now, left_out = time.monotonic(), 0
        window = self._windows.get(kind)
        if window is None or now - window.begun > PERIOD_SECONDS:
            if len(self._windows) >= MOST_KINDS:
                self._windows.clear()
            left_out = 0 if window is None else window.left_out
            window = self._windows[kind] = _Window(now)
        window.lines += 1
        if window.lines <= self._lines:
            return left_out
        window.left_out += 1
        return None
