"""When `/readyz`, V2 and the metrics say that the service is ready."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cpu_quota import half_a_core
from fake_source import FakeSource
from server import running
from test_application import no_page, request
from tiny_zoo import write_regression

from serving.application import Application
from serving.drain import Drain
from serving.engine import Engine
from serving.follower import Follower
from serving.problem import Problem
from serving.readiness import Readiness
from serving.settings import Settings
from zoo.errors import ZooError


@pytest.fixture
def source(tmp_path: Path) -> FakeSource:
    return FakeSource(tmp_path)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("cpu", threads=1, queue=1, generations=1)
    yield engine
    engine.close()


@pytest.fixture
def follower(source: FakeSource, engine: Engine) -> Follower:
    return Follower(source, engine, 1.0, None)


@pytest.fixture
def drain() -> Drain:
    return Drain(0.0, 31.0)


@pytest.fixture
def readiness(follower: Follower, engine: Engine, drain: Drain) -> Readiness:
    return Readiness(follower, engine.turns, drain, 30.0)


def state(readiness: Readiness) -> dict[str, float]:
    return {sample.name: sample.value for metric in readiness.collect() for sample in metric.samples}


def test_a_start_at_which_no_champion_can_be_loaded(
    source: FakeSource, follower: Follower, readiness: Readiness
) -> None:
    assert state(readiness) == {"zoo_ready": 0, "zoo_champions_not_served": 0}
    follower._step()
    with pytest.raises(Problem, match="none of 1 champions could be loaded") as caught:
        readiness.require()
    assert (caught.value.status, caught.value.code) == (503, "not_ready")
    assert state(readiness) == {"zoo_ready": 0, "zoo_champions_not_served": 1}

    write_regression(source.folder / "2")
    source.champion = "2"
    follower._step()
    readiness.require()
    assert state(readiness) == {"zoo_ready": 1, "zoo_champions_not_served": 0}


def test_a_later_champion_that_cannot_be_loaded(
    source: FakeSource, follower: Follower, readiness: Readiness
) -> None:
    write_regression(source.folder / "1")
    follower._step()
    source.champion = "2"
    follower._step()
    readiness.require()
    assert follower.catalogue is not None
    assert follower.catalogue.find("diabetes").version == "1"
    assert state(readiness) == {"zoo_ready": 1, "zoo_champions_not_served": 1}


def test_a_champion_that_is_taken_away_before_a_damaged_one_comes(
    source: FakeSource, follower: Follower, readiness: Readiness
) -> None:
    write_regression(source.folder / "1")
    follower._step()
    source.champion = ""
    follower._step()
    readiness.require()
    source.champion = "2"
    follower._step()
    assert state(readiness)["zoo_ready"] == 0


def test_files_that_come_back(
    source: FakeSource, follower: Follower, readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower._step()
    write_regression(source.folder / "1")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    follower._step()
    readiness.require()


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
def test_both_protocols_say_so(path: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        made = write_regression(tmp_path / name, name=f"linear_regression-{name}")
        made.graph_path.write_bytes(b"\0")
    application = Application(no_page, Settings(bundles=tmp_path))
    application._follower._step()
    response = request(application, "GET", path)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "none of 2 champions could be loaded" in response.text
    assert "zoo_ready 0.0" in request(application, "GET", "/metrics").text


def test_a_folder_without_bundles(tmp_path: Path) -> None:
    application = Application(no_page, Settings(bundles=tmp_path))
    with pytest.raises(ZooError, match="no bundle is below"):
        application._follower._step()
    application._follower.problem = "logged"
    response = request(application, "GET", "/readyz")
    assert response.status_code == 503
    assert "cannot be listed" in response.text
    write_regression(tmp_path / "late")
    application._follower._step()
    assert request(application, "GET", "/readyz").status_code == 200


def test_a_service_that_drains(
    source: FakeSource, follower: Follower, drain: Drain, readiness: Readiness
) -> None:
    write_regression(source.folder / "1")
    follower._step()
    assert state(readiness)["zoo_ready"] == 1
    drain.begun = True
    assert state(readiness)["zoo_ready"] == 0


@pytest.mark.slow
def test_half_a_core_computes_one_thing_at_a_time(tmp_path: Path) -> None:
    write_regression(tmp_path / "bundles" / "made")
    bundles = str(tmp_path / "bundles")
    with half_a_core() as join, running(tmp_path / "log", launcher=join, ZOO_BUNDLES=bundles) as server:
        page = httpx.get(f"{server.url}/metrics").text
    assert "zoo_compute_threads 1.0" in page.splitlines()
