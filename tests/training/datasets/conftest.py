"""Where these data sets are looked for: folders of a test's own, and a server that has some of them."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zoo.tasks import Arrays

# torch.hub does not close the connection of a download that it gives up.
LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_HOME; data sets need no database in it."""
    directory = tmp_path / "home"
    monkeypatch.setenv("ZOO_HOME", str(directory))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    return directory


@pytest.fixture
def given(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_DATA."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("ZOO_DATA", str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rows(split: Arrays) -> list[tuple[str, str]]:
    columns = zip(split["source"].tolist(), split["target"].tolist(), strict=True)
    return [(source.decode(), target.decode()) for source, target in columns]
