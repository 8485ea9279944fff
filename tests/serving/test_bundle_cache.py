"""The cache of bundles, where its files are damaged, or another user's."""

import os
import shutil
from pathlib import Path

import pytest
from fake_source import FakeSource
from test_application import no_page
from tiny_zoo import write_regression

from serving.application import Application
from serving.bundle_cache import BundleCache
from serving.engine import Engine
from serving.follower import Follower
from serving.settings import Settings


@pytest.mark.parametrize("deletable", [True, False])
def test_a_damaged_bundle(
    deletable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = write_regression(tmp_path / "source" / "1")
    source, cache = FakeSource(tmp_path / "source"), BundleCache(tmp_path / "cache")
    source.digest = made.digest
    cache.keep(made)
    cached = cache.bundle(made.digest)
    assert cached is not None
    (cached / "model.onnx").write_bytes(b"\0")
    if not deletable:
        monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    engine = Engine("cpu", threads=1, queue=1, generations=1)
    follower = Follower(source, engine, 1.0, cache)
    follower._step()
    engine.close()
    assert follower.catalogue is not None
    assert follower.catalogue.find("diabetes").version == "1", "its source has it"
    expected = "is refused and is deleted" if deletable else "is refused and cannot be deleted"
    assert f"the cached bundle {cached} {expected}: " in caplog.text


def test_a_bundle_that_may_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not deleted because it cannot be read now."""
    made = write_regression(tmp_path / "source" / "1")
    source, cache = FakeSource(tmp_path / "source"), BundleCache(tmp_path / "cache")
    source.digest = made.digest
    cache.keep(made)
    cached = cache.bundle(made.digest)
    assert cached is not None
    open_file = os.open

    def closed(path: Path, *others: object) -> int:
        if Path(path).is_relative_to(cached):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", closed)
    engine = Engine("cpu", threads=1, queue=1, generations=1)
    Follower(source, engine, 1.0, cache)._step()
    engine.close()
    assert (cached / "model.onnx").exists()


def test_another_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The service starts without it."""

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # where MLflow itself may have put it
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", closed)
        application = Application(no_page, Settings())
    assert f"bundles are not cached for a start without the registry: {tmp_path}" in caplog.text
    assert "belongs to" in caplog.text
    application._follower._step()
    assert application._follower.catalogue is not None
