"""`bentoml build` makes a Bento of exported bundles that answers by itself: no registry, no torch."""

import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from docker_files import PROJECT, ROOT
from packaging.requirements import Requirement
from server import READY_SECONDS, environment, free_port, is_ready, wait_for
from sockets import ports, unix_sockets
from tiny_zoo import write_regression

pytestmark = pytest.mark.slow

OF_THE_REGISTRY = {"alembic", "mlflow-skinny", "sqlalchemy"}


def bentoml(*words: str) -> list[str]:
    return [sys.executable, "-m", "bentoml", *words]


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store of Bentos of its own, and no source but the Bento's."""
    store, home = tmp_path_factory.mktemp("bentoml"), tmp_path_factory.mktemp("home")
    found = environment(BENTOML_HOME=str(store), ZOO_HOME=str(home / "unused"))
    return {name: value for name, value in found.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def bento(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Bento that was built in a copy of the checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("serving", "training", "zoo", "tests/serving"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    write_regression(checkout / "bundles" / "regression")
    subprocess.run(
        bentoml("build"), cwd=checkout, env=variables, check=True, capture_output=True, timeout=120
    )
    (built,) = Path(variables["BENTOML_HOME"]).glob(f"bentos/{PROJECT['name']}/*/")
    return built


def test_it_carries_what_serves_and_nothing_else(bento: Path) -> None:
    assert {path.name for path in (bento / "src").iterdir()} == {
        "bundles",
        "serving",
        "zoo",
        "bentofile.yaml",
    }
    assert not {"layers", "models"} & {path.name for path in (bento / "src" / "zoo").iterdir()}


def test_its_requirements_are_those_of_serving_but_the_registrys(bento: Path) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bentoml"]["build"]
    serving = PROJECT["optional-dependencies"]["serving"]
    name_of = re.compile(r"[\w-]+")
    names = {requirement: name_of.match(requirement)[0] for requirement in serving}
    wanted = [requirement for requirement, name in names.items() if name not in OF_THE_REGISTRY]
    assert build["python"]["packages"] == wanted
    written = (bento / "env" / "python" / "requirements.txt").read_text(encoding="utf-8")
    needed = {str(Requirement(requirement)) for requirement in (*wanted, *PROJECT["dependencies"])}
    assert needed <= set(written.splitlines())
    image = (bento / "env" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "ARG BENTOML_DO_NOT_TRACK=true" in image
    assert not {"torch", *OF_THE_REGISTRY} & set(name_of.findall(written))


def test_it_answers(bento: Path, variables: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = bentoml("serve", f"{PROJECT['name']}:latest", "--host", "127.0.0.1", "--port", str(port))
    process = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_ready(f"{url}/readyz"), READY_SECONDS)
        answer = httpx.post(f"{url}/regress", json={"model": "diabetes", "rows": [[1, 2]]}).json()
        assert (ports(process.pid), unix_sockets(process.pid)) == ({port}, set())
        pages = [httpx.get(url + path).status_code for path in ("/", "/docs")]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert answer["predictions"] == [{"value": 6.0, "unit": "points"}]
    assert pages == [200, 200]
    assert not Path(variables["ZOO_HOME"]).exists()
    assert list(tmp_path.iterdir()) == []
