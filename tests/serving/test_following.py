"""The running service follows the registry: promote, roll back, broken bundles, a store that is gone."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import Server, running, wait_for
from tiny_zoo import TinyRegistry, write_images, write_regression

NAME = "linear_regression-energy"  # of this module alone: no other test sees its versions


@pytest.fixture(scope="module")
def versions(registry: TinyRegistry, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three versions of one model that answer 0, 100 and 200 to a row of zeros."""
    scratch = tmp_path_factory.mktemp("energy")
    made = [write_regression(scratch / str(bias), bias=bias, name=NAME) for bias in (0.0, 100.0, 200.0)]
    numbers = [registry.register(one) for one in made]
    registry.promote(NAME, numbers[0])
    return numbers


def ask(client: httpx.Client, model: str = NAME) -> dict:
    return client.post("/regress", json={"model": model, "rows": [[0, 0]] * 3}).json()


def version_of(client: httpx.Client, model: str = NAME) -> str:
    return ask(client, model).get("lineage", {}).get("version", "")


def test_promote_and_roll_back_under_load(
    registry: TinyRegistry, versions: list[str], server: Server, client: httpx.Client
) -> None:
    wait_for(lambda: version_of(client) == versions[0])
    value_of = dict(zip(versions, (0.0, 100.0, 200.0), strict=True))
    stop, answers, failures = threading.Event(), [], []

    def load() -> None:
        with httpx.Client(base_url=server.url) as mine:
            while not stop.is_set():
                body = ask(mine)
                if "predictions" not in body:
                    failures.append(body)
                    continue
                version = body["lineage"]["version"]
                answers.append(version)
                if [p["value"] for p in body["predictions"]] != [value_of[version]] * 3:
                    failures.append(body)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in (versions[1], versions[2], versions[1], versions[0]):
            registry.promote(NAME, number)
            wait_for(lambda number=number: version_of(client) == number)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert set(answers) == set(versions)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("model.onnx", "model.onnx"),
        ("manifest.json", "not a complete bundle"),
        ("golden.json", "golden.json"),
    ],
)
def test_a_broken_bundle_leaves_the_old_version_serving(
    registry: TinyRegistry,
    versions: list[str],
    client: httpx.Client,
    tmp_path: Path,
    file: str,
    reason: str,
) -> None:
    registry.promote(NAME, versions[0])
    wait_for(lambda: version_of(client) == versions[0])
    broken = registry.register(write_regression(tmp_path / "broken", bias=7.0, name=NAME))
    (registry.files(NAME, broken) / file).write_bytes(b"\0")
    registry.promote(NAME, broken)

    def listed() -> dict:
        return client.get(f"/models/{NAME}").json()["versions"][0]

    wait_for(lambda: listed()["version"] == broken and reason in listed()["reason"])
    assert listed()["state"] == "refused"
    assert str(registry.home) not in listed()["reason"]
    assert version_of(client) == versions[0]
    registry.promote(NAME, versions[1])
    wait_for(lambda: version_of(client) == versions[1])


def test_a_bundle_that_is_not_the_registered_one(
    registry: TinyRegistry, versions: list[str], client: httpx.Client, tmp_path: Path
) -> None:
    swapped = registry.register(write_regression(tmp_path / "swapped", bias=7.0, name=NAME))
    registry.client.set_model_version_tag(NAME, swapped, "digest", "0" * 64)
    before = version_of(client)
    registry.promote(NAME, swapped)
    wait_for(lambda: "digest" in client.get(f"/models/{NAME}").json()["versions"][0]["reason"])
    assert version_of(client) == before
    registry.promote(NAME, versions[0])


def test_a_champion_that_failed_its_gate_is_not_served(
    registry: TinyRegistry, client: httpx.Client, tmp_path: Path
) -> None:
    name = "linear_regression-failed"
    made = write_regression(tmp_path / "failed", name=name)
    registry.promote(name, registry.register(made, gate="failed", reason="mse 2900 is not below 1"))
    wait_for(lambda: "not below 1" in client.get(f"/models/{name}").text)
    response = client.post("/regress", json={"model": name, "rows": [[0, 0]]})
    assert response.status_code == 404
    assert "mse 2900 is not below 1" in response.json()["error"]


def test_a_model_without_a_champion_is_not_served(
    registry: TinyRegistry, client: httpx.Client, tmp_path: Path
) -> None:
    name = "linear_regression-new"
    registry.register(write_regression(tmp_path / "new", name=name))
    wait_for(lambda: "is available" in client.get(f"/models/{name}").text)
    registry.promote(name, "1")
    wait_for(lambda: version_of(client, name) == "1")
    assert version_of(client, "new") == "1"  # the data set's name, from the moment there is a model
    registry.client.delete_registered_model_alias(name, "champion")
    wait_for(lambda: client.get(f"/models/{name}").status_code == 404)


def test_the_data_sets_name_follows_the_registry(
    registry: TinyRegistry, client: httpx.Client, tmp_path: Path
) -> None:
    for name, accuracy in (("lenet5-shapes", 0.9), ("mlp-shapes", 0.8)):
        made = write_images(tmp_path / name, name=name, accuracy=accuracy)
        registry.promote(name, registry.register(made))

    def answers() -> str | None:
        response = client.get("/models/shapes")
        return response.json().get("alias_of")

    wait_for(lambda: answers() == "lenet5-shapes")  # the best, while the registry does not say
    registry.copy_to_data_set("mlp-shapes", "1", "shapes")
    wait_for(lambda: answers() == "mlp-shapes")
    assert [v["version"] for v in client.get("/models/shapes").json()["versions"]] == ["1"]


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A service that was started before there was a registry."""
    home = tmp_path_factory.mktemp("lonely")
    with running(home / "server.log", ZOO_HOME=str(home / "zoo")) as server:
        yield server, home / "zoo"


def test_without_a_registry_then_with_one_then_without(lonely: tuple[Server, Path], tmp_path: Path) -> None:
    server, home = lonely
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/models").json() == {"models": []}
        assert client.get("/docs.json").status_code == 200
        assert not home.exists()
        registry = TinyRegistry(home)
        registry.promote(NAME, registry.register(write_regression(tmp_path / "first", name=NAME)))
        wait_for(lambda: version_of(client) == "1")

        database = home / "mlflow.db"
        database.rename(home / "away.db")
        wait_for(lambda: "cannot be read" in server.log.read_text())
        assert version_of(client) == "1"
        assert client.get("/readyz").status_code == 200
        (home / "away.db").rename(database)
        second = registry.register(write_regression(tmp_path / "second", bias=2.0, name=NAME))
        shutil.copy(database, home / "backup.db")
        registry.promote(NAME, second)
        wait_for(lambda: version_of(client) == second)
        (home / "backup.db").replace(database)
        wait_for(lambda: version_of(client) == "1")
