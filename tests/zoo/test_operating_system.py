"""Systems that lack what Linux has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import operating_system
from zoo.operating_system import cpu_cores


def test_cores_that_this_process_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_system, "CPU_QUOTA", Path("/nowhere"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    assert cpu_cores() == 3


def test_cores_where_no_process_is_bound_to_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_system, "CPU_QUOTA", Path("/nowhere"))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000\n", 8), ("200000 100000\n", 2), ("250000 100000\n", 3), ("50000 100000\n", 1), ("", 8)],
)
def test_a_quota_of_the_container(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota)
    monkeypatch.setattr(operating_system, "CPU_QUOTA", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cpu_cores() == cores


# Our modules, imported without what CPython lacks on macOS or on Windows, and without uvloop. The libraries
# come first: they are this system's.
LACKING = """
import asyncio, os, signal, socket, sys
import bentoml, numpy, onnxruntime, psutil, uvicorn
for module, names in {
    os: ("sched_getaffinity", "sched_setaffinity", "killpg", "fork", "getuid", "geteuid", "uname"),
    signal: ("SIGHUP", "SIGKILL", "pthread_sigmask"),
    socket: ("AF_UNIX",),
    asyncio: ("start_unix_server", "open_unix_connection"),
}.items():
    for name in names:
        delattr(module, name)
for name in ("fcntl", "resource", "termios", "readline", "pwd", "grp", "uvloop"):
    sys.modules[name] = None
"""
SERVE = (
    LACKING
    + """
from pathlib import Path
import numpy as np
import serving.application
from serving.engine import Engine
from serving.siblings import meeting_place
from zoo import cli, quickstart_command
from zoo.errors import ZooError

Engine("cpu", threads=1, queue=1, generations=1).close()
try:
    meeting_place()
except ZooError as error:
    print(error)
"""
)


def test_the_service_without_what_windows_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ZOO_WORKERS must be 1" in done.stdout


EVENT_LOOP = """
import sys
sys.modules["uvloop"] = None
import uvicorn
from serving.service import ZooService
app = ZooService.to_asgi()
for system, loop in (("linux", "auto"), ("win32", "asyncio")):  # what BentoML asks uvicorn for
    sys.platform = system
    print(uvicorn.Config(app, loop=loop).get_loop_factory())
"""


def test_the_event_loop_without_uvloop() -> None:
    done = subprocess.run([sys.executable, "-c", EVENT_LOOP], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["<class 'asyncio.unix_events._UnixSelectorEventLoop'>"] * 2
