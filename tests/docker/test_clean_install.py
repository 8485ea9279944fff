"""The servers' install and start commands, each in a virtual environment; needs the package index."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from docker_files import DOCKER, ROOT, only, stages
from server import environment, free_port, wait_for
from tiny_zoo import write_regression

START_SECONDS = 120.0

pytestmark = pytest.mark.soak


class Container:
    """An image's commands with this machine's folders and a free port in place of the image's own."""

    def __init__(self, name: str, root: Path, **variables: str) -> None:
        self.build, self.image = stages(DOCKER / f"{name}.Dockerfile")
        self.root = root
        self.port = str(free_port())
        for folder in ("source", "opt", "tmp"):
            (root / folder).mkdir()
        values = only(self.image, "ENV").value
        own = {key: self.here(value) for key, value in zip(values[::2], values[1::2], strict=True)}
        own["PATH"] = own["PATH"].replace("$PATH", os.environ["PATH"])
        started_with = {k: v for k, v in environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.environment = {**started_with, **own, "TMPDIR": str(root / "tmp"), **variables}

    def here(self, text: str) -> str:
        """A path or an address of the image, on this machine."""
        text = text.replace(" /opt/", f" {self.root}/opt/").replace("0.0.0.0", "127.0.0.1")
        return f"{self.root}{text}" if text.startswith("/opt/") or text == "/tmp" else text

    def install(self) -> None:
        """What COPY and RUN do before the image's own stage; git stands in for .dockerignore."""
        kept = (ROOT / ".dockerignore").read_text(encoding="utf-8")
        names = [line.removeprefix("!") for line in kept.splitlines() if line.startswith("!")]
        archive = subprocess.run(
            ["git", "archive", "HEAD", *names], cwd=ROOT, check=True, capture_output=True
        )
        source = self.root / "source"
        subprocess.run(["tar", "--extract"], cwd=source, check=True, input=archive.stdout)
        for run in (i.value[0] for i in self.build if i.cmd == "RUN"):
            subprocess.run(
                self.here(run), shell=True, cwd=source, env=self.environment, check=True, timeout=1800
            )

    def start(self) -> "subprocess.Popen[bytes]":
        """What CMD does; a server on the free port."""
        words = [self.here(word) for word in only(self.image, "CMD").value]
        command = [*words, "--port", self.port]
        return subprocess.Popen(command, cwd=self.root / "tmp", env=self.environment)

    def is_healthy(self) -> bool:
        """What HEALTHCHECK says."""
        port = only(self.image, "EXPOSE").value[0]
        check = [w.replace(f":{port}/", f":{self.port}/") for w in only(self.image, "HEALTHCHECK").value[1:]]
        return subprocess.run(check, env=self.environment, capture_output=True).returncode == 0

    def installed(self) -> set[Path]:
        """Every file below /opt."""
        return {path for path in (self.root / "opt").rglob("*") if path.is_file()}

    def packages(self) -> str:
        """What is installed."""
        return subprocess.run(
            ["python", "-m", "pip", "list"], env=self.environment, check=True, capture_output=True, text=True
        ).stdout


def starts_and_ends(container: Container, ask: Callable[[], None] = lambda: None) -> None:
    before = container.installed()
    process = container.start()
    try:
        wait_for(container.is_healthy, START_SECONDS)
        ask()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert container.installed() == before, "the root file system is read-only"


def test_serving(tmp_path: Path) -> None:
    write_regression(tmp_path / "bundles" / "regression")
    container = Container("serving", tmp_path, ZOO_BUNDLES=str(tmp_path / "bundles"))
    container.install()
    assert "torch" not in container.packages()
    starts_and_ends(container)


def test_mlflow(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    container = Container("mlflow", tmp_path, MLFLOW_BACKEND_STORE_URI=store)
    container.install()
    assert {"boto3", "psycopg"} <= set(container.packages().split())
    starts_and_ends(container)
