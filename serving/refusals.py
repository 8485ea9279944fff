"""Requests that are refused before their body is read: each is counted, a few are logged."""

import logging
import time
from collections import Counter

from serving.problem import Problem

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
"""Seconds between two log lines with the same status: a client may be refused thousands of times a second."""

Client = tuple[str, int] | None
"""A connection's other end: address and port; None for a Unix socket."""


class Refusals:
    """Counts by status. The event loop alone notes refusals."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self._next_line: dict[int, float] = {}

    def note(self, problem: Problem, client: Client) -> None:
        """Counts a refusal, and logs it unless another one of its status was logged just before.

        The log line has nothing that the client sent, and so no key.
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
