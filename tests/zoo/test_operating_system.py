"""Systems that lack what Linux has."""

import subprocess
import sys

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
