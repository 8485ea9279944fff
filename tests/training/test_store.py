"""The store's database and its locks, on a machine that other users share."""

import http.server
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from training import store
from zoo.errors import ZooError


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
def test_a_new_store_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the home is shared on purpose."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tmp_path.chmod(0o770)
    store.connect()
    assert permissions(tmp_path / "mlflow.db") == 0o600
    assert permissions(tmp_path / "mlflow.lock") == 0o600
    assert permissions(tmp_path) == 0o770


def test_a_lock_that_another_process_keeps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    with (
        FileLock(home / "promotion.lock"),
        pytest.raises(ZooError, match=r"another process has held .*promotion\.lock for 0\.1 s"),
        store.locked("promotion"),
    ):
        pass
    with store.locked("promotion"):
        pass


def test_a_lock_that_cannot_be_opened(home: Path) -> None:
    (home / "promotion.lock").mkdir()
    with pytest.raises(ZooError, match=r"promotion\.lock cannot be locked"), store.locked("promotion"):
        pass


class Refusing(http.server.BaseHTTPRequestHandler):
    """An MLflow server that notes the credentials, and fails."""

    seen: set[str | None]

    def do_GET(self) -> None:
        self.seen.add(self.headers["Authorization"])
        self.send_error(400, "no")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[int]:
    Refusing.seen = set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_that_refuses(home: Path, refusing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "other")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:secret@127.0.0.1:{refusing}")
    with pytest.raises(ZooError, match="cannot be used") as raised:
        store.connect()
    assert "secret" not in str(raised.value)
    assert Refusing.seen == {"Basic YW5uYTpzZWNyZXQ="}


def test_an_address_that_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgres://anna:secret@db/zoo")  # MLflow wants postgresql://
    with pytest.raises(ZooError, match=r"postgres://\*\*\*@db/zoo") as raised:
        store.connect()
    assert "secret" not in str(raised.value)
