"""Started without its registry, the service answers from its cache of bundles that passed their checks."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from server import Server, command, environment, free_port, running, wait_for
from tiny_zoo import TinyRegistry, write_regression

from serving.bundle_cache import PARTIAL, BundleCache
from serving.source import Listing, Version
from zoo.home import serving_cache
from zoo.version import ChallengerMode

NAME = "linear_regression-energy"
GONE = "from the local cache"


@pytest.fixture
def registry(tmp_path: Path) -> TinyRegistry:
    """Versions that answer 0 and 100 to zeros, the first of which is champion."""
    registry = TinyRegistry(tmp_path / "home")
    for bias in (0.0, 100.0):
        registry.register(write_regression(tmp_path / str(bias), bias=bias, name=NAME))
    registry.promote(NAME, "1")
    return registry


def value(server: Server) -> float:
    answer = httpx.post(f"{server.url}/regress", json={"model": NAME, "rows": [[0, 0]]})
    return float(answer.json()["predictions"][0]["value"])


def cached(server: Server) -> bool:
    return "zoo_serving_from_cache 1.0" in httpx.get(f"{server.url}/metrics").text


def cache_of(registry: TinyRegistry, monkeypatch: pytest.MonkeyPatch, uri: str | None = None) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(registry.home))
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return serving_cache()


def served_once(registry: TinyRegistry, log: Path) -> None:
    """Starts the service, and kills it once it is ready: nothing is left in order."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            env=environment(ZOO_HOME=str(registry.home)),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, 60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_killed_and_started_without_the_registry(
    registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served_once(registry, tmp_path / "first")
    (cache_of(registry, monkeypatch) / "bundles" / f"{PARTIAL}killed").mkdir()  # in the midst of a copy
    shutil.rmtree(registry.home / "artifacts")
    (registry.home / "mlflow.db").rename(registry.home / "away.db")
    with running(tmp_path / "second", ZOO_HOME=str(registry.home)) as server:
        assert value(server) == 0
        assert cached(server)
        assert GONE in (tmp_path / "second").read_text()
        entry = httpx.get(f"{server.url}/models/{NAME}").json()
        assert [v["state"] for v in entry["versions"]] == ["available", "serving"]
        (registry.home / "away.db").rename(registry.home / "mlflow.db")
        wait_for(lambda: not cached(server))
        third = registry.register(write_regression(tmp_path / "third", bias=300.0, name=NAME))
        registry.promote(NAME, third)
        wait_for(lambda: value(server) == 300)


def test_a_database_that_is_none_and_a_bundle_that_was_altered(
    registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served_once(registry, tmp_path / "first")
    (registry.home / "mlflow.db").write_bytes(b"not a database" * 1000)
    (bundle,) = (cache_of(registry, monkeypatch) / "bundles").iterdir()
    model = (bundle / "model.onnx").read_bytes()
    with running(tmp_path / "second", ZOO_HOME=str(registry.home)) as server:
        assert value(server) == 0
        assert cached(server)
    (bundle / "model.onnx").write_bytes(model[:-1])
    with running(tmp_path / "third", ZOO_HOME=str(registry.home)) as server:
        refused = httpx.post(f"{server.url}/regress", json={"model": NAME, "rows": [[0, 0]]})
        assert refused.status_code == 404
        log = (tmp_path / "third").read_text()
        assert f"{bundle} is refused" in log
        assert "model.onnx is not the file" in log


def test_a_tracking_server_that_never_answers(
    registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served_once(registry, tmp_path / "first")
    of_sqlite = cache_of(registry, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        of_sqlite.rename(cache_of(registry, monkeypatch, uri))  # as if it had answered before
        variables = {"ZOO_HOME": str(registry.home), "MLFLOW_TRACKING_URI": uri}
        with running(tmp_path / "second", **variables) as server:  # within 30 s
            assert value(server) == 0
            assert cached(server)


def test_rollback_without_files(registry: TinyRegistry, tmp_path: Path) -> None:
    with running(tmp_path / "log", ZOO_HOME=str(registry.home)) as server:
        registry.promote(NAME, "2")
        wait_for(lambda: value(server) == 100)
        shutil.rmtree(registry.home / "artifacts")
        shutil.rmtree(registry.home / "cache")
        registry.promote(NAME, "1")
        wait_for(lambda: value(server) == 0)
        registry.promote(NAME, "2")
        wait_for(lambda: value(server) == 100)


# The cache alone


def test_what_is_kept_and_what_goes(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path / "cache")
    cache.prune(set())
    assert not cache.holds_listing
    assert cache.listing() is None
    made = [write_regression(tmp_path / str(bias), bias=bias) for bias in (1.0, 2.0)]
    for one in made:
        cache.keep(one)
        cache.keep(one)
    first, second = (one.digest for one in made)
    files = {path.name for path in cache.bundle(first).iterdir()}
    assert files == {"manifest.json", *made[0].manifest.files}
    left = tmp_path / "cache" / "bundles" / f"{PARTIAL}left"
    left.mkdir()
    cache.prune({second})
    assert cache.bundle(first) is None
    assert cache.bundle(second) is not None
    assert left.exists(), "somebody may be writing it"
    os.utime(left, (0, 0))
    cache.prune({second})
    assert not left.exists()

    version = Version(NAME, "1", ("champion",), True, "", {"mse": 1.0}, second, ChallengerMode(0.25))
    listing = Listing({NAME: (version,)}, {"energy": NAME})
    cache.keep_listing(listing)
    assert cache.listing() == listing
    (tmp_path / "cache" / "listing.json").write_text("{")
    assert cache.listing() is None


def test_a_disk_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    cache = BundleCache(tmp_path / "cache")
    cache.keep(write_regression(tmp_path / "made"))
    cache.keep_listing(Listing())
    assert caplog.text.count("cannot cache") == 2
