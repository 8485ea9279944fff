"""`make run` where everything is trained: both servers come up, and end with it."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from quick_training import QuickZoo


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_sigterm_stops_both_servers(zoo: QuickZoo) -> None:
    ports = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("zoo")), "quickstart"]
    options = ["--ui-port", str(ports[0]), "--serve-port", str(ports[1])]
    with subprocess.Popen(
        [*command, *options],
        env={**os.environ, "ZOO_HOME": str(zoo.home)},
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        said = ""
        while "Ctrl-C stops both" not in said:
            line = running.stdout.readline()
            assert line, said
            said += line
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/models") as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/") as page:
            assert f'href="http://127.0.0.1:{ports[0]}/"'.encode() in page.read(), "the page links to MLflow"
        running.send_signal(signal.SIGTERM)
        rest, _ = running.communicate(timeout=60)
        assert "stopping both servers" in rest
        assert running.returncode == 0
    for port in ports:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
