"""Versions that are no champions: loaded once for all who ask, a bounded number, and refused with reason."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from server import Server, running, wait_for
from tiny_zoo import TinyRegistry, write_regression

from serving.catalogue import Served
from serving.engine import Engine
from serving.on_demand import OnDemand
from serving.source import Version
from serving.turns import DeadlineExceeded
from zoo.errors import NotFound

pytestmark = pytest.mark.slow

NAME = "linear_regression-energy"
BIASES = (0.0, 100.0, 200.0, 300.0)
BOUND = 2
VERSION = Version(NAME, "1", (), True, "", {}, None)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    """Versions that answer 0, 100, 200 and 300 to zeros; the second is champion, the third challenger."""
    registry, scratch = TinyRegistry(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("made")
    for bias in BIASES:
        registry.register(write_regression(scratch / str(bias), bias=bias, name=NAME))
    registry.promote(NAME, "2")
    registry.client.set_registered_model_alias(NAME, "challenger", "3")
    registry.register(write_regression(scratch / "orphan", name="linear_regression-orphan"))
    return registry


@pytest.fixture(scope="module")
def server(registry: TinyRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(log, ZOO_HOME=str(registry.home), ZOO_ON_DEMAND=str(BOUND)) as server:
        yield server


def ask(client: httpx.Client, version: str, name: str = NAME) -> httpx.Response:
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}
    return client.post(f"/v2/models/{name}/versions/{version}/infer", json={"inputs": [tensor]})


@pytest.mark.parametrize("name", [NAME, "energy"])
def test_every_version_answers_more_often_than_fits(client: httpx.Client, name: str) -> None:
    for _ in range(2):
        for number, bias in enumerate(BIASES, 1):
            answer = ask(client, str(number), name).json()
            assert answer["model_version"] == answer["parameters"]["version"] == str(number)
            assert answer["outputs"][0]["data"] == [bias]
    assert ask(client, "champion", name).json()["model_version"] == "2"
    assert ask(client, "challenger", name).json()["model_version"] == "3"
    assert client.get(f"/v2/models/{name}").json()["versions"] == ["1", "2", "3", "4"]
    assert client.get(f"/v2/models/{name}/versions/4").json()["inputs"][0]["shape"] == [-1, 2]
    assert client.get(f"/v2/models/{name}/versions/1/ready").status_code == 200


def test_a_model_without_a_champion(client: httpx.Client) -> None:
    assert client.get("/v2/models/linear_regression-orphan").status_code == 404
    assert ask(client, "1", "linear_regression-orphan").json()["outputs"][0]["data"] == [1]


def test_a_version_that_is_not_what_was_registered(
    registry: TinyRegistry, client: httpx.Client, tmp_path: Path
) -> None:
    broken = registry.register(write_regression(tmp_path / "broken", bias=7.0, name=NAME))
    (registry.files(NAME, broken) / "model.onnx").write_bytes(b"\0")
    wait_for(lambda: "model.onnx" in ask(client, broken).text)
    refused = ask(client, broken)
    assert refused.status_code == 404
    assert refused.json()["error"].startswith(f"version {broken} of '{NAME}' is refused: model.onnx is not")
    assert client.get(f"/v2/models/{NAME}/versions/{broken}/ready").status_code == 404
    wait_for(lambda: client.get(f"/models/{NAME}").json()["versions"][0]["state"] == "refused")
    index = client.post("/v2/repository/index", json={"ready": True}).json()
    assert (NAME, broken) not in {(entry["name"], entry["version"]) for entry in index}
    assert (NAME, "1") in {(entry["name"], entry["version"]) for entry in index}


def test_many_who_ask_at_the_same_time(server: Server) -> None:
    def one(number: int) -> list[float]:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            return ask(client, str(number)).json()["outputs"][0]["data"]

    with ThreadPoolExecutor(8) as threads:
        asked = [1, 3, 4, 1] * 4
        assert list(threads.map(one, asked)) == [[BIASES[number - 1]] for number in asked]


# The class alone


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    engine = Engine("cpu", 1, 1, 1)
    directory = tmp_path_factory.mktemp("alone") / "made"
    write_regression(directory)
    yield Served(engine.load(directory), "1")
    engine.close()


class Loading:
    """Counts loads, and holds them up while told to."""

    def __init__(self, served: Served) -> None:
        self.loaded: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.failure: Exception | None = None
        self._served = served

    def __call__(self, version: Version) -> Served:
        self.go.wait(10)
        self.loaded.append(version.number)
        if self.failure is not None:
            raise self.failure
        return self._served


def late() -> float:
    return time.monotonic() + 10


def test_one_load_for_all_who_ask_and_the_loop_goes_on(served: Served) -> None:
    loading = Loading(served)
    loading.go.clear()

    async def scenario() -> None:
        on_demand = OnDemand(loading, 1)
        asking = [asyncio.create_task(on_demand.get(VERSION, late())) for _ in range(20)]
        with pytest.raises(DeadlineExceeded):
            await on_demand.get(VERSION, time.monotonic() + 0.01)
        asking[0].cancel()
        loading.go.set()  # by the loop, which nothing held up
        assert await asyncio.gather(*asking[1:]) == [served] * 19
        assert await on_demand.get(VERSION, time.monotonic()) is served
        on_demand.close()

    asyncio.run(scenario())
    assert loading.loaded == ["1"]


def test_the_least_recently_used_give_way(served: Served) -> None:
    loading = Loading(served)

    async def scenario() -> None:
        on_demand = OnDemand(loading, 2)
        for number in ("1", "2", "1", "3", "1", "2"):
            await on_demand.get(replace(VERSION, number=number), late())
        on_demand.close()

    asyncio.run(scenario())
    assert loading.loaded == ["1", "2", "3", "2"]


def test_a_failure_is_told_to_all_and_tried_again(served: Served) -> None:
    loading = Loading(served)
    loading.failure = NotFound("altered")

    async def scenario() -> None:
        on_demand = OnDemand(loading, 2)
        told = await asyncio.gather(
            *(on_demand.get(VERSION, late()) for _ in range(3)), return_exceptions=True
        )
        assert told == [loading.failure] * 3
        loading.failure = None
        assert await on_demand.get(VERSION, late()) is served
        on_demand.close()

    asyncio.run(scenario())
    assert loading.loaded == ["1", "1"]
