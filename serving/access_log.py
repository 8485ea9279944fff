"""Access log: one JSON line per request, on the logger `serving.access`, without queries, bodies and keys."""

import logging
import sys
from datetime import UTC, datetime

import orjson

from serving.exchange import Exchange
from serving.log_sampling import LogSampling

log = logging.getLogger("serving.access")

MILLISECOND = 1_000_000  # nanoseconds
LONGEST_PATH = 200  # characters


def write(exchange: Exchange, total: int, sampling: LogSampling | None) -> None:
    """Logs a request that took `total` nanoseconds; its status is 0 if it was not answered.

    With `sampling`, some lines of each status are left out; the next line that is written states how many.
    """
    left_out = 0 if sampling is None else sampling.left_out(exchange.outcome)
    if left_out is None:
        return
    timing = exchange.timing
    line = {
        "time": datetime.now(UTC),
        "request_id": exchange.request_id.decode(),
        "method": exchange.method,
        "path": exchange.path[:LONGEST_PATH],
        "status": exchange.outcome,
        "model": timing.model,
        "version": timing.version,
        "ms": round(total / MILLISECOND, 3),
        "queue_ms": round(timing.queue / MILLISECOND, 3),
        "compute_ms": round(timing.compute / MILLISECOND, 3),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
    }
    if left_out:
        line["left_out"] = left_out
    log.info("%s", orjson.dumps(line).decode())


def to_stdout() -> None:
    """Writes the lines to stdout as they are, without the prefix of other log lines."""
    handler = logging.StreamHandler(sys.stdout)
    log.addHandler(handler)
    log.propagate = False
