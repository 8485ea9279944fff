"""No library reports its use: nothing is written for it, and no host is looked up."""

import subprocess
import sys
from pathlib import Path

import pytest
from lookups import names_looked_up, quiet_environment
from quick_training import QuickZoo

ZOO = str(Path(sys.executable).with_name("zoo"))
REPORT_SECONDS = "15"  # ONNX Runtime 1.32 sends its first report 10 s after it was loaded
OPEN_AND_RUN = """
import sys, time
from serving.engine import IDENTITY
from zoo.graph import Graph
import numpy as np
Graph(IDENTITY, "cpu")({"x": np.zeros((), np.float32)})
time.sleep(float(sys.argv[1]))
"""
# `training` alone comes before ONNX Runtime, as in the modules that import both.
OPEN_AFTER_TRAINING = """
import training, onnxruntime
from serving.engine import IDENTITY
onnxruntime.InferenceSession(IDENTITY)
"""
QUICKSTART = """
import signal, subprocess, sys, time
running = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
while "Ctrl-C" not in (line := running.stdout.readline()):
    if not line:
        sys.exit("zoo quickstart stopped by itself")
time.sleep(float(sys.argv[1]))
running.send_signal(signal.SIGTERM)
sys.exit(running.wait(30))
"""


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "command", [python(OPEN_AND_RUN, "0"), python(OPEN_AFTER_TRAINING)], ids=["zoo", "training"]
)
def test_a_session_leaves_no_file(command: list[str], tmp_path: Path) -> None:
    subprocess.run(command, env=quiet_environment(tmp_path), check=True)
    assert files(tmp_path) == []


def test_a_value_that_the_user_set_stays(tmp_path: Path) -> None:
    command = python("import os, zoo; print(os.environ['ORT_DISABLE_TELEMETRY'])")
    environment = quiet_environment(tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert subprocess.run(command, env=environment, check=True, capture_output=True).stdout == b"0\n"


@pytest.mark.slow
class TestLookups:
    def test_a_lookup_is_seen(self, tmp_path: Path) -> None:
        """Otherwise the tests below would see nothing either."""
        ask = "import socket\ntry: socket.getaddrinfo('zoo.example', 80)\nexcept OSError: pass"
        assert names_looked_up(python(ask), quiet_environment(tmp_path)) == {"zoo.example"}

    def test_a_session(self, tmp_path: Path) -> None:
        command = python(OPEN_AND_RUN, REPORT_SECONDS)
        assert names_looked_up(command, quiet_environment(tmp_path)) == set()

    def test_training(self, tmp_path: Path) -> None:
        command = [ZOO, "train", "linear-regression"]
        assert names_looked_up(command, quiet_environment(tmp_path)) == set()
        assert [name for name in files(tmp_path) if "Microsoft" in name] == []

    def test_both_servers(self, zoo: QuickZoo, tmp_path: Path) -> None:
        command = python(QUICKSTART, REPORT_SECONDS, ZOO, "quickstart")
        environment = quiet_environment(tmp_path, ZOO_HOME=str(zoo.home))
        assert names_looked_up(command, environment) == set()
        assert [name for name in files(tmp_path) if "Microsoft" in name or name.startswith("tmpdir")] == []
