"""Ports that are taken, and ports that cannot be."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import free_port

from zoo.cli import main
from zoo.errors import ZooError
from zoo.ports import require_free

ZOO = Path(sys.executable).with_name("zoo")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_a_free_port_is_proposed(taken: int) -> None:
    with pytest.raises(ZooError, match=rf"^port {taken} is taken; choose another: --port \d+$") as raised:
        require_free(taken, "--port {port}")
    require_free(int(str(raised.value).rpartition(" ")[2]), "--port {port}")


def test_a_port_whose_connections_have_just_ended_is_free() -> None:
    """It stays in TIME_WAIT for a minute, which keeps no server from it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            accepted, _ = listener.accept()
            accepted.close()  # this side closes first
            assert client.recv(1) == b""
    require_free(address[1], "--port {port}")


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_numbers_that_are_no_ports(port: int) -> None:
    with pytest.raises(ZooError, match=f"from 1 to 65535, not {port}"):
        require_free(port, "--port {port}")


@pytest.mark.parametrize(
    ("option", "variable", "other"), [("--port", "PORT", "--ui-port"), ("--ui-port", "UI_PORT", "--port")]
)
def test_quickstart_tries_its_ports_before_it_trains(
    option: str, variable: str, other: str, taken: int, tmp_path: Path
) -> None:
    command = [ZOO, "quickstart", option, str(taken), other, str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"zoo: port {taken} is taken; choose another: make run {variable}=")
    assert f"zoo quickstart {option} " in line
    assert list(tmp_path.iterdir()) == []


def test_quickstart_needs_two_ports(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["quickstart", "--port", "4321", "--ui-port", "4321"])
    assert "--port and --ui-port are both 4321" in capsys.readouterr().err
