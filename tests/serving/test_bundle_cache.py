"""The cache of bundles, where its files are damaged, or another user's."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_source import FakeSource
from test_application import no_page
from tiny_zoo import write_regression

from serving.application import Application
from serving.bundle_cache import BundleCache
from serving.engine import Engine
from serving.follower import Follower
from serving.settings import Settings
from zoo.bundle import load


@pytest.fixture
def source(tmp_path: Path) -> FakeSource:
    source = FakeSource(tmp_path / "source")
    source.digest = write_regression(source.folder / "1").digest
    return source


@pytest.fixture
def cached(source: FakeSource, tmp_path: Path) -> Path:
    """The source's bundle in the cache, which is in `tmp_path / "cache"`."""
    cache = BundleCache(tmp_path / "cache")
    cache.keep(load(source.folder / "1"))
    found = cache.bundle(source.digest)
    assert found is not None
    return found


def served_version(source: FakeSource, tmp_path: Path) -> str:
    """Version that a service with this source and the cache answers with."""
    engine = Engine("cpu", threads=1, queue=1, generations=1)
    follower = Follower(source, engine, 1.0, BundleCache(tmp_path / "cache"))
    follower._step()
    engine.close()
    assert follower.catalogue is not None
    return follower.catalogue.find("diabetes").version


@pytest.mark.parametrize("deletable", [True, False])
def test_a_damaged_bundle(
    deletable: bool,
    source: FakeSource,
    cached: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (cached / "model.onnx").write_bytes(b"\0")
    if not deletable:
        monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    assert served_version(source, tmp_path) == "1", "its source has it"
    expected = "is refused and is deleted" if deletable else "is refused and cannot be deleted"
    assert f"the cached bundle {cached} {expected}: " in caplog.text


def test_a_bundle_that_cannot_be_read_now_is_not_deleted(
    source: FakeSource,
    cached: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    open_file = os.open

    def closed(path: Any, *others: Any, **named: Any) -> int:
        if Path(path) == cached / "model.onnx":
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *others, **named)

    monkeypatch.setattr(os, "open", closed)
    assert served_version(source, tmp_path) == "1", "its source has it"
    assert f"the cached bundle {cached} is refused and stays: " in caplog.text
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
