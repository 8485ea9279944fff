"""Commands that `make` would run in a fresh checkout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from requirement import require

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    require(shutil.which("make"), "make")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def commands(checkout: Path, *words: str) -> list[str]:
    # Without the flags and the level of the make that runs the tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", *words],
        cwd=checkout,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def extras(lines: list[str]) -> list[set[str]]:
    """Groups of pyproject.toml that each `pip install` asks for."""
    installs = [line for line in lines if "pip install" in line]
    return [set(line.partition("[")[2].partition("]")[0].split(",")) for line in installs]


def test_run_installs_what_running_needs(checkout: Path) -> None:
    assert extras(commands(checkout, "run")) == [{"serving", "training"}]


@pytest.mark.parametrize("target", ["test", "slow", "soak", "check", "bench"])
def test_others_install_the_rest_on_top(target: str, checkout: Path) -> None:
    assert extras(commands(checkout, target)) == [
        {"serving", "training"},
        {"serving", "training", "tracing", "dev"},
    ]


def test_ports_of_run(checkout: Path) -> None:
    assert commands(checkout, "run")[-1].endswith("zoo quickstart --port 3000 --ui-port 5000")
    chosen = commands(checkout, "run", "PORT=3001", "UI_PORT=5001")
    assert chosen[-1].endswith("zoo quickstart --port 3001 --ui-port 5001")
