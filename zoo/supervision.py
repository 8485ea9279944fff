"""Runs several servers as child processes: if one ends, all are stopped."""

import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from zoo.errors import ZooError
from zoo.home import home, make_directory
from zoo.operating_system import start_group

READY_SECONDS = 60
STOP_SECONDS = 20  # time to finish answers before a server is killed
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Server:
    """A started server, its log file, and its known child processes."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    """File with its output."""
    children: set[psutil.Process] = field(default_factory=set)
    """Descendants seen so far, for `stop` to kill: BentoML's worker outlives a supervisor that is killed."""


def start(name: str, command: Sequence[str], environment: Mapping[str, str]) -> Server:
    """Starts a server with added environment variables; its output goes to a file in `ZOO_HOME`."""
    log = home() / "logs" / f"{name.lower().replace(' ', '-')}.log"
    make_directory(log.parent)
    with log.open("wb") as output:
        return Server(name, start_group(command, environment, output), log)


def require_running(servers: Sequence[Server]) -> None:
    """Raises `ZooError` if a server has ended; records the child processes of each."""
    for server in servers:
        with suppress(psutil.NoSuchProcess):
            server.children.update(psutil.Process(server.process.pid).children(recursive=True))
        if (code := server.process.poll()) is not None:
            raise ZooError(f"the {server.name} ended with exit code {code}; the reason is in {server.log}")


def wait_until_ready(url: str, servers: Sequence[Server]) -> None:
    """Waits until a URL answers; `ZooError` if it does not within READY_SECONDS, or if a server ends."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        require_running(servers)
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(POLL_SECONDS)
    logs = " and ".join(str(server.log) for server in servers)
    raise ZooError(f"{url} did not answer within {READY_SECONDS} s; see {logs}")


def stop(servers: Sequence[Server]) -> None:
    """Stops all servers at the same time; kills those that take too long, and orphaned children."""
    for server in servers:
        server.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for server in servers:
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(max(0, deadline - time.monotonic()))
        server.process.kill()  # does nothing if it has ended
        for child in server.children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    psutil.wait_procs([child for server in servers for child in server.children], POLL_SECONDS)
