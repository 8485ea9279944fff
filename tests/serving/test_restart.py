"""Started without its registry, the service answers from its cache of bundles that passed their checks."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from server import READY_SECONDS, Server, command, environment, free_port, running, wait_for
from tiny_zoo import TinyRegistry, write_regression

from serving.bundle_cache import PARTIAL, BundleCache
from serving.source import Listing, Version
from zoo.home import serving_cache
from zoo.version import ChallengerMode

pytestmark = pytest.mark.slow

NAME = "linear_regression-energy"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    """Versions that answer 0 and 100 to zeros; the first is champion, and was served until a SIGKILL."""
    scratch = tmp_path_factory.mktemp("made")
    registry = TinyRegistry(tmp_path_factory.mktemp("registry"))
    for bias in (0.0, 100.0):
        registry.register(write_regression(scratch / str(bias), bias=bias, name=NAME))
    registry.promote(NAME, "1")
    _serve_until_killed(registry, scratch / "log")
    return registry


@pytest.fixture
def cache(registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts the cache that was left into another home, `tmp_path`, where there is no registry."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow itself may have put it there
    monkeypatch.setenv("ZOO_HOME", str(registry.home))
    left = serving_cache()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))

    def put(uri: str | None = None) -> Path:
        if uri is not None:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return Path(shutil.copytree(left, serving_cache()))

    return put


def value(server: Server) -> float:
    answer = httpx.post(f"{server.url}/regress", json={"model": NAME, "rows": [[0, 0]]})
    return float(answer.json()["predictions"][0]["value"])


def cached(server: Server) -> bool:
    return "zoo_serving_from_cache 1.0" in httpx.get(f"{server.url}/metrics").text


def _serve_until_killed(registry: TinyRegistry, log: Path) -> None:
    """Nothing is left in order."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            env=environment(ZOO_HOME=str(registry.home)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, 60)
    finally:
        service = psutil.Process(process.pid)
        for one in (service, *service.children(recursive=True)):
            one.kill()
        process.wait()


def test_started_without_the_registry_until_it_is_back(
    registry: TinyRegistry, cache: Callable[..., Path], tmp_path: Path
) -> None:
    (cache() / "bundles" / f"{PARTIAL}killed").mkdir()  # in the midst of a copy
    elsewhere = {"ZOO_SOURCES": str(registry.home / "artifacts")}
    with running(tmp_path / "log", ZOO_HOME=str(tmp_path), **elsewhere) as server:
        assert value(server) == 0
        assert cached(server)
        assert "from the local cache" in (tmp_path / "log").read_text()
        entry = httpx.get(f"{server.url}/models/{NAME}").json()
        assert [v["state"] for v in entry["versions"]] == ["available", "serving"]
        shutil.copy(registry.home / "mlflow.db", tmp_path / "arriving.db")
        (tmp_path / "arriving.db").rename(tmp_path / "mlflow.db")
        wait_for(lambda: not cached(server), READY_SECONDS)  # it imports MLflow only now
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        client = MlflowClient(uri, registry_uri=uri)  # or else the one that this process asked last
        client.set_registered_model_alias(NAME, "champion", "2")
        wait_for(lambda: value(server) == 100)


def test_a_database_that_is_none_and_a_bundle_that_was_altered(
    cache: Callable[..., Path], tmp_path: Path
) -> None:
    (bundle,) = (cache() / "bundles").iterdir()
    model = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(model[:-1])
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 1000)
    with running(tmp_path / "log", probe="/livez", ZOO_HOME=str(tmp_path)) as server:
        wait_for(lambda: "none of 1 champions could be loaded" in httpx.get(f"{server.url}/readyz").text)
        refused = httpx.post(f"{server.url}/regress", json={"model": NAME, "rows": [[0, 0]]})
        assert refused.status_code == 404
        log = (tmp_path / "log").read_text()
        assert f"{bundle} is refused" in log
        assert "model.onnx is not the file" in log
        assert not bundle.exists()


def test_a_tracking_server_that_never_answers(cache: Callable[..., Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cache(uri)  # as if it had answered before
        variables = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
        with running(tmp_path / "log", ZOO_HOME=str(tmp_path), **variables) as server:
            assert value(server) == 0
            assert cached(server)


def test_rollback_without_files(registry: TinyRegistry, tmp_path: Path) -> None:
    with running(tmp_path / "log", ZOO_HOME=str(registry.home)) as server:
        registry.promote(NAME, "2")
        wait_for(lambda: value(server) == 100)
        (registry.home / "artifacts").rename(tmp_path / "artifacts")
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
    assert caplog.text.count("are not cached") == 2
