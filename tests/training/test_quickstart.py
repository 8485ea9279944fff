"""`zoo quickstart` where everything is trained: both servers come up, and end with it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from quick_training import QuickZoo
from requirement import require
from server import free_port, wait_for
from sockets import ports, unix_sockets

MOST_BYTES = 1.2e9  # that `make run` leaves in memory
STOP_SECONDS = 15
SETTLE_SECONDS = 15


@dataclass(frozen=True)
class Running:
    process: "subprocess.Popen[str]"
    port: int
    ui_port: int

    def servers(self) -> dict[str, psutil.Process]:
        """The two processes that were started, by the name of their module."""
        children = psutil.Process(self.process.pid).children()
        return {child.cmdline()[2]: child for child in children}

    def everything(self) -> list[psutil.Process]:
        started = psutil.Process(self.process.pid)
        return [started, *started.children(recursive=True)]

    def ended(self, processes: list[psutil.Process]) -> tuple[int, str, str]:
        """Exit code and what was printed, once it and all of the processes have ended."""
        printed, errors = self.process.communicate(timeout=STOP_SECONDS)
        wait_for(lambda: not any(is_alive(process) for process in processes))
        for port in (self.port, self.ui_port):
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) != 0
        return self.process.returncode, printed, errors.strip()


@contextmanager
def started(home: Path) -> Iterator[Running]:
    """`zoo quickstart`, in a process group of its own."""
    port, ui_port = free_port(), free_port()
    zoo = str(Path(sys.executable).with_name("zoo"))
    process = subprocess.Popen(
        [zoo, "quickstart", "--port", str(port), "--ui-port", str(ui_port)],
        env={**os.environ, "ZOO_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        yield Running(process, port, ui_port)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@contextmanager
def quickstart(home: Path) -> Iterator[Running]:
    """The same, once it says that it is ready."""
    with started(home) as running:
        process = running.process
        assert process.stdout is not None
        said = ""
        while "Ctrl-C stops both" not in said:
            line = process.stdout.readline()
            assert line, said + process.communicate()[1]
            said += line
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_both_servers(number: signal.Signals, zoo: QuickZoo) -> None:
    with quickstart(zoo.home) as running:
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/models") as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/") as page:
            link = f'href="http://127.0.0.1:{running.ui_port}/"'
            assert link.encode() in page.read(), "the page links to MLflow"
        assert ports(running.process.pid) == {running.port, running.ui_port}
        assert unix_sockets(running.process.pid) == set()
        processes = running.everything()
        running.process.send_signal(number)
        code, printed, _ = running.ended(processes)
    assert code == 0
    assert "stopping both servers" in printed


def test_ctrl_c_stops_both_servers_and_they_were_small(zoo: QuickZoo) -> None:
    """A terminal sends SIGINT to the whole foreground group."""
    with quickstart(zoo.home) as running:
        require(Path("/proc/self/smaps_rollup").exists(), "Linux, which tells a process's share of memory")
        processes = running.everything()
        for _ in range(SETTLE_SECONDS):  # a server may start processes after its first answer
            sizes = {process.pid: proportional_size(process) for process in running.everything()}
            assert sum(sizes.values()) < MOST_BYTES, sizes
            time.sleep(1)
        address = running.servers()["bentoml"].environ()["ZOO_MLFLOW_URL"]
        assert address == f"http://127.0.0.1:{running.ui_port}"
        os.killpg(running.process.pid, signal.SIGINT)
        code, printed, errors = running.ended(processes)
    assert (code, errors) == (0, "")
    assert "stopping both servers" in printed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_training(number: signal.Signals, home: Path) -> None:
    with started(home) as running:
        wait_for(lambda: len(running.everything()) > 4, within=60)  # it, the training, and those that train
        processes = running.everything()
        os.killpg(running.process.pid, number)
        code, _, errors = running.ended(processes)
    assert code == 130
    assert errors.endswith("zoo: interrupted")
    assert "Traceback" not in errors


@pytest.mark.parametrize(("module", "name"), [("bentoml", "service"), ("mlflow", "MLflow UI")])
def test_a_server_that_ends_takes_the_other_down(module: str, name: str, zoo: QuickZoo) -> None:
    with quickstart(zoo.home) as running:
        processes = running.everything()
        running.servers()[module].kill()
        code, _, errors = running.ended(processes)
    assert code == 1
    said = re.fullmatch(r"zoo: the (.+) ended with exit code -9; the reason is in (.+)", errors)
    assert said is not None, errors
    assert said[1] == name
    assert Path(said[2]).is_file()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def proportional_size(process: psutil.Process) -> int:
    """Bytes of memory, shared pages divided by the processes that share them (PSS)."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8")
    kilobytes = re.search(r"^Pss: +(\d+) kB$", text, re.MULTILINE)
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024
