"""One registry and one service for nearly every test of the service."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import Server, memory, running
from tiny_zoo import (
    TALK,
    TinyRegistry,
    write_classification,
    write_copier,
    write_corner,
    write_forecaster,
    write_generator,
    write_images,
    write_photos,
    write_regression,
    write_writer,
)

SECONDS = 5.0  # in which every request of a bad kind has its answer
SURPLUS = 300_000_000
"""Bytes more than before that the service may hold after a module's requests: glibc keeps some of the largest
images for each thread that decoded one."""

EXEMPT = (
    # MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that the next one will not have.
    "ignore:The ``noload`` loader strategy:DeprecationWarning",
    # BentoML 1.4 names a class of pathspec that has a new name since 1.0.
    "ignore:GitWildMatchPattern:DeprecationWarning",
    # BentoML 1.4's client asks pydantic's models for their schema in the way of pydantic 2.10.
    "ignore:The `__get_pydantic_core_schema__` method:DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in EXEMPT:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    """Eleven models, one version of which failed its gate; the data set `mnist` has its champion's name."""
    scratch: Path = tmp_path_factory.mktemp("bundles")
    registry = TinyRegistry(tmp_path_factory.mktemp("home"))
    for made in (
        write_regression(scratch / "regression"),
        write_classification(scratch / "classification"),
        write_images(scratch / "images"),
        write_images(scratch / "worse_images", name="mlp-mnist", accuracy=0.9),
        write_generator(scratch / "generator"),
        write_corner(scratch / "corner"),
        write_photos(scratch / "photos"),
        write_forecaster(scratch / "forecaster"),
        write_writer(scratch / "writer"),
        write_writer(scratch / "talker", name="rnn-talk", chat=TALK),
        write_copier(scratch / "copier"),
    ):
        registry.promote(made.manifest.model, registry.register(made))
    registry.copy_to_data_set("lenet5-mnist", "1", "mnist")
    failed = write_regression(scratch / "failed", bias=9.0, mse=9000.0)
    registry.register(failed, gate="failed", reason="mse 9000 is not below 3500")
    return registry


@pytest.fixture(scope="session")
def server(registry: TinyRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("log") / "server.log", ZOO_HOME=str(registry.home)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def steady(server: Server) -> Iterator[None]:
    """The memory of the service is, after a module, what it was before."""
    before = memory(server)
    yield
    assert memory(server) < before + SURPLUS


@pytest.fixture
def unharmed(server: Server, client: httpx.Client, steady: None) -> Iterator[None]:
    """A test is quick, and the service ready and right after it."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS
    assert client.get("/readyz").status_code == 200
    right = client.post("/regress", json={"model": "diabetes", "rows": [[1, 2]]})
    assert right.json()["predictions"] == [{"value": 6.0, "unit": "points"}]
