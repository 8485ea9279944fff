"""The service's dependencies have wheels for every system and Python version; needs a package index."""

import os
import subprocess
from pathlib import Path

import pytest
from docker_files import PROJECT, ROOT
from requirement import require
from uv import find_uv_bin

pytestmark = pytest.mark.slow

# llguidance needs glibc 2.31 (Debian 11, Ubuntu 20.04), ONNX Runtime macOS 14.
SYSTEMS = (
    "x86_64-manylinux_2_31",
    "aarch64-manylinux_2_31",
    "aarch64-apple-darwin",
    "windows",
)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of what was read from the package index, for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_serving_can_be_installed(system: str, python: str, cache: Path) -> None:
    """pip would judge the markers of requirements by the system that it runs on."""
    command = [
        find_uv_bin(), "pip", "compile", "--extra", "serving", "--constraint", "constraints.txt",
        "--python-platform", system, "--python-version", python, "--only-binary", ":all:",
        "--no-header", "--no-annotate", "--cache-dir", cache, "pyproject.toml",
    ]  # fmt: skip
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    require("Failed to fetch" not in done.stderr, "a package index")
    assert done.returncode == 0, done.stderr
    names = {line.partition("==")[0] for line in done.stdout.splitlines()}
    assert {"bentoml", "httptools", "onnxruntime"} <= names
    assert ("uvloop" in names) == ("windows" not in system)


def test_every_python_is_meant() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
