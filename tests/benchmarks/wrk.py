"""Load by wrk (Debian's package), which is written in C and keeps its own time.

A connection sends its next request as soon as the last one is answered. So wrk does not see how long a
request would have waited that came while the server paused ("coordinated omission"): it has at most one
request for each connection in such a pause.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
local file = io.open({body}, "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = {media_type}
{headers}
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"""
RESULT = re.compile(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)")
MICROSECONDS = 1e6  # in a second


@dataclass(frozen=True)
class Sent:
    """A request that is sent again and again."""

    url: str
    body: bytes
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Requests a second, and seconds that half of them and one in a hundred took longer than."""

    rate: float
    p50: float
    p99: float


def require_wrk() -> None:
    """Ends the benchmark with a message if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed: apt-get install wrk")


def drive(sent: Sent, connections: int, seconds: int, folder: Path) -> Outcome:
    """Sends a request over so many connections for so long; scratch files go to `folder`."""
    (folder / "body").write_bytes(sent.body)
    headers = "\n".join(f"wrk.headers[{json.dumps(n)}] = {json.dumps(v)}" for n, v in sent.headers)
    script = SCRIPT.format(
        body=json.dumps(str(folder / "body")), media_type=json.dumps(sent.media_type), headers=headers
    )
    (folder / "wrk.lua").write_text(script)
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
    told = subprocess.run(
        [*command, "-s", str(folder / "wrk.lua"), sent.url], capture_output=True, text=True, check=True
    )
    found = RESULT.search(told.stdout)
    assert found is not None, told.stdout
    requests, duration, failed, p50, p99 = map(int, found.groups())
    assert failed == 0, told.stdout
    return Outcome(requests / duration * MICROSECONDS, p50 / MICROSECONDS, p99 / MICROSECONDS)
