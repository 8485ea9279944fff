"""State directories, so that no test touches the user's, and one training of each quick recipe."""

import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

import zoo as _  # noqa: F401  # turns telemetry off before a test imports a library that reports

if TYPE_CHECKING:
    from quick_training import QuickZoo

# Before torch is loaded, here and in the processes that tests start: threads that wait for one another on
# busy cores make a small training fifty times slower.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell's background job ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A job of nohup ignores the end of its terminal, and so would they.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "_quick_zoo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def live_in(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes a directory the only ZOO_HOME."""
    patch.setenv("ZOO_HOME", str(directory))
    # MLflow itself puts the URI that it was last told into the environment, for child processes.
    for name in ("ZOO_DATA", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        patch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        live_in(tmp_path_factory.mktemp("unused_home"), patch)
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tracking store without runs."""
    from empty_database import empty_database

    path = tmp_path_factory.mktemp("empty_store") / "mlflow.db"
    path.write_bytes(empty_database())
    return path


@pytest.fixture
def home(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_HOME."""
    directory = tmp_path / "home"
    directory.mkdir()
    shutil.copy(empty_store, directory / "mlflow.db")
    live_in(directory, monkeypatch)
    return directory


@pytest.fixture(scope="session")
def _quick_zoo(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> "QuickZoo":
    """Trained once for all processes that run tests."""
    from quick_training import QuickZoo

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    directory, trained = shared / "quick_zoo", shared / "quick_zoo.pickle"
    with FileLock(shared / "quick_zoo.lock"):
        if trained.exists():
            return pickle.loads(trained.read_bytes())
        directory.mkdir()
        shutil.copy(empty_store, directory / "mlflow.db")
        with pytest.MonkeyPatch.context() as patch:
            live_in(directory, patch)
            zoo = QuickZoo.train(directory)
        trained.write_bytes(pickle.dumps(zoo))
        return zoo


@pytest.fixture
def zoo(_quick_zoo: "QuickZoo", monkeypatch: pytest.MonkeyPatch) -> "QuickZoo":
    """ZOO_HOME with every quick recipe trained; read it, and leave it as it is."""
    live_in(_quick_zoo.home, monkeypatch)
    return _quick_zoo
