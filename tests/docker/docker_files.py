"""Where the files of deployment are, and what a Dockerfile says."""

import re
import tomllib
from pathlib import Path
from typing import Any

import dockerfile

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def stages(path: Path) -> list[list[dockerfile.Command]]:
    """The instructions after each FROM; the last ones make the image."""
    found: list[list[dockerfile.Command]] = []
    for instruction in dockerfile.parse_file(str(path)):
        if instruction.cmd == "FROM":
            found.append([])
        elif found:  # before the first FROM are arguments
            found[-1].append(instruction)
    return found


def only(stage: list[dockerfile.Command], name: str) -> dockerfile.Command:
    """The one instruction of that name."""
    (found,) = (instruction for instruction in stage if instruction.cmd == name)
    return found


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package that an image is built from."""
    text = (DOCKER / f"requirements-{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        requirement, *hashes = line.split()
        package, _, version = requirement.partition("==")
        found[re.sub(r"\[.*\]", "", package)] = (version, hashes)
    return found
