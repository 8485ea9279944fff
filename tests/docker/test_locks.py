"""The images hold what pyproject.toml asks for, in the versions that the tests run with."""

import re
from collections.abc import Iterator

import pytest
from docker_files import DOCKER, PROJECT, ROOT, locked
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("build", "mlflow", "serving", "serving-cpu", "serving-cuda", "training", "training-cuda")
IMAGES = {  # what each image is installed from
    "build": ("build",),
    "mlflow": ("mlflow",),
    "serving-cpu": ("serving", "serving-cpu"),
    "serving-cuda": ("serving", "serving-cuda"),
    "training": ("build", "training", "training-cuda"),
}
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SERVING = [*PROJECT["dependencies"], *EXTRAS["serving"], *EXTRAS["tracing"]]
ASKED = {
    "build": ["setuptools>=77"],
    "mlflow": ["boto3", "mlflow", "psycopg[binary]"],
    "serving-cpu": SERVING,
    "serving-cuda": [text.replace("onnxruntime", "onnxruntime-gpu") for text in SERVING],
    "training": [*PROJECT["dependencies"], *EXTRAS["training"]],
}
OF_CUDA = re.compile(r"torch|torchvision|triton|cuda-.*|nvidia-.*")


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


@pytest.mark.parametrize("name", IMAGES)
class TestEveryImage:
    def test_it_holds_what_is_asked_for(self, name: str) -> None:
        packages = {package: version for lock in IMAGES[name] for package, version in locked(lock).items()}
        for requirement in map(Requirement, ASKED[name]):
            version, _ = packages[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement

    def test_its_locks_agree(self, name: str) -> None:
        """pip would refuse two versions of one package."""
        found: dict[str, set[str]] = {}
        for lock in IMAGES[name]:
            for package, (version, _) in locked(lock).items():
                found.setdefault(package, set()).add(version)
        assert {package for package, versions in found.items() if len(versions) > 1} == set()


def test_one_onnx_runtime_is_installed() -> None:
    """Two would have the same files."""
    found = {lock: {name for name in locked(lock) if name.startswith("onnxruntime")} for lock in LOCKS}
    assert found["serving"] == set()
    assert found["serving-cpu"] == {"onnxruntime"}
    assert found["serving-cuda"] == {"onnxruntime-gpu"}


def test_training_on_the_cpu_needs_nothing_of_cuda() -> None:
    assert not [name for name in locked("training") if OF_CUDA.fullmatch(name)]
    assert not [name for name in locked("training-cuda") if not OF_CUDA.fullmatch(name)]


def test_torch_for_the_cpu_has_the_version_of_torch_for_cuda() -> None:
    """From torch's own index, which `make lock` does not ask for hashes."""
    lines = (DOCKER / "requirements-training-cpu.txt").read_text(encoding="utf-8").splitlines()
    version = {name: locked("training-cuda")[name][0] for name in ("torch", "torchvision")}
    assert lines == [
        "--index-url https://download.pytorch.org/whl/cpu",
        *(f"{name}=={version[name]}+cpu" for name in version),
    ]


def test_the_lower_bounds_leave_out_known_vulnerabilities() -> None:
    """As published when the bounds were raised; `pip-audit` knows of later ones."""
    first_sound = {"filelock": "3.20.3", "orjson": "3.11.6", "starlette": "0.49.1"}
    asked = [Requirement(text) for text in (*SERVING, *ASKED["training"])]
    bounds = {requirement.name: requirement.specifier for requirement in asked}
    for name, version in first_sound.items():
        assert bounds[name].contains(version)
        assert not bounds[name].contains(version[:-1] + str(int(version[-1]) - 1))
