"""Requests refused before their body is read: all are counted, a few are logged."""

import logging
import time
from collections import Counter

from serving.problem import Problem

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""Minimum seconds between two log lines with the same status, as refusals may come by the thousands."""

Client = tuple[str, int] | None
"""Address and port of the client; None for a Unix socket."""


class Refusals:
    """Counts of refusals by status. Only the event loop calls `note`."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self._next_line: dict[int, float] = {}

    def note(self, problem: Problem, client: Client) -> None:
        """Counts a refusal, and logs it unless one with the same status was logged in the last LOG_SECONDS.

        The log line contains nothing that the client sent, and so no key.
        """
        status = problem.status
        self.counts[status] += 1
        now = time.monotonic()
        if now >= self._next_line.get(status, now):
            self._next_line[status] = now + LOG_SECONDS
            address = "a client" if client is None else client[0]
            log.warning(
                "refused %s with %d: %s (%d with this status since the start)",
                address, status, problem.message, self.counts[status],
            )  # fmt: skip
