"""The images hold what pyproject.toml asks for, in the versions that the tests run with."""

import re
from collections.abc import Iterator

import pytest
from docker_files import PROJECT, ROOT, locked
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("build", "mlflow", "serving", "training")
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ASKED = {
    "build": ["setuptools>=77"],
    "mlflow": ["boto3", "mlflow", "psycopg[binary]"],
    "serving": [*PROJECT["dependencies"], *EXTRAS["serving"]],
    "training": [*PROJECT["dependencies"], *EXTRAS["training"]],
}


def constraints() -> Iterator[Requirement]:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield Requirement(line)


@pytest.mark.parametrize("name", LOCKS)
class TestEveryLock:
    def test_every_package_has_a_version_and_hashes(self, name: str) -> None:
        packages = locked(name)
        assert packages
        for version, hashes in packages.values():
            assert re.fullmatch(r"[\w.+!-]+", version)
            assert hashes
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes)

    def test_it_agrees_with_the_constraints(self, name: str) -> None:
        packages = locked(name)
        for constraint in constraints():
            version, _ = packages.get(canonicalize_name(constraint.name), (None, []))
            assert version is None or constraint.specifier.contains(version), constraint

    def test_it_holds_what_is_asked_for(self, name: str) -> None:
        packages = locked(name)
        for requirement in map(Requirement, ASKED[name]):
            version, _ = packages[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


def test_the_lower_bounds_leave_out_known_vulnerabilities() -> None:
    """As published when the bounds were raised; `pip-audit` knows of later ones."""
    first_sound = {"filelock": "3.20.3", "orjson": "3.11.6", "starlette": "0.49.1"}
    asked = [Requirement(text) for text in (*ASKED["serving"], *ASKED["training"])]
    bounds = {requirement.name: requirement.specifier for requirement in asked}
    for name, version in first_sound.items():
        assert bounds[name].contains(version)
        assert not bounds[name].contains(version[:-1] + str(int(version[-1]) - 1))
