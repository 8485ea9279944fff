"""The real service as a child process."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from zoo.servers import service_command

PROMISE = 5.0
"""Seconds in which the service follows what happens outside it."""
READY_SECONDS = 60  # of a busy test machine; a quiet one takes three


@dataclass(frozen=True)
class Server:
    """A running service."""

    url: str
    pid: int
    log: Path


def environment(**variables: str) -> dict[str, str]:
    """This process's variables with other settings for the service."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ZOO_", "MLFLOW_"))}
    return {**inherited, "ZOO_POLL": "0.2", "ZOO_DRAIN": "0", **variables}


def command(port: int, host: str = "127.0.0.1") -> list[str]:
    """What `zoo serve` executes."""
    return service_command(host, port)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    log: Path,
    host: str = "127.0.0.1",
    launcher: Sequence[str] = (),
    probe: str = "/readyz",
    **variables: str,
) -> Iterator[Server]:
    """A service on an address, with these variables, for which a probe succeeded when the context opens.

    The command that starts it is given to the command `launcher`, which executes it.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*launcher, *command(port, host)],
            env=environment(**variables),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(f"{url}{probe}", process, log)
        yield Server(url, process.pid, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def memory(server: Server) -> int:
    """Bytes that the service holds in memory."""
    process = psutil.Process(server.pid)
    return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))


def wait_for(condition: Callable[[], bool], within: float = PROMISE) -> float:
    """Seconds until a condition holds; fails once `within` seconds are over."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < within
        time.sleep(0.02)
    return time.monotonic() - start


def is_ready(url: str) -> bool:
    """Whether a health check says so; also false while nobody listens."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _wait_until_ready(probe: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if is_ready(probe):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the service did not become ready:\n{log.read_text()}")
