"""Challengers of a running service: in the shadow, for a share of the requests, and the report on both."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server import Server, running, wait_for
from tiny_zoo import TinyRegistry, write_images, write_regression, write_writer

from serving.contest import place
from training import promotion
from zoo.cli import main
from zoo.version import CHALLENGER, ChallengerMode

pytestmark = pytest.mark.slow

NAME, WRITER = "linear_regression-energy", "rnn-letters"
BIAS = {"1": 0.0, "2": 1000.0, "3": 0.01}
"""Of each version: what it answers to zeros. The first two are far apart, the third is near the first."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    registry, scratch = TinyRegistry(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("made")
    for number, bias in BIAS.items():
        assert number == registry.register(write_regression(scratch / number, bias=bias, name=NAME))
    for number in ("1", "2"):
        registry.register(write_writer(scratch / f"writer-{number}"))
    registry.promote(NAME, "1")
    registry.promote(WRITER, "1")
    return registry


@pytest.fixture(scope="module")
def server(registry: TinyRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("log") / "log", ZOO_HOME=str(registry.home)) as server:
        yield server


@pytest.fixture
def challenge(
    registry: TinyRegistry, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Begins a challenge as the command line does, and waits until the service knows; ends it afterwards."""
    monkeypatch.setenv("ZOO_HOME", str(registry.home))

    def begin(name: str, version: str, *mode: str) -> None:
        main(["challenger", name, version, *mode])
        wait_for(lambda: active(client).get(name) == version)

    yield begin
    for name in (NAME, WRITER):
        if registry.client.get_registered_model(name).aliases.get(CHALLENGER):
            main(["challenger", name, "--stop"])
    wait_for(lambda: not active(client))


def active(client: httpx.Client) -> dict[str, str]:
    """Challengers by model."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [s for f in families for s in f.samples if s.name == "zoo_challenger_share"]
    return {s.labels["model"]: s.labels["challenger"] for s in samples}


def ask(client: httpx.Client, model: str = NAME, **headers: str) -> tuple[str, float]:
    """Version and value of the answer to zeros."""
    answer = client.post("/regress", json={"model": model, "rows": [[0, 0]]}, headers=headers).json()
    return answer["lineage"]["version"], answer["predictions"][0]["value"]


def report(server: Server, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    main(["challenger", NAME, "--report", "--url", server.url, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("version", "agreement"), [("2", 0.0), ("3", 1.0)])
def test_in_the_shadow(
    server: Server,
    client: httpx.Client,
    challenge: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    version: str,
    agreement: float,
) -> None:
    challenge(NAME, version)
    for _ in range(5):
        assert ask(client) == ("1", BIAS["1"])
    assert ask(client, "energy") == ("1", BIAS["1"])
    wait_for(lambda: report(server, capsys)["challenger"]["requests"] == 6)
    told = report(server, capsys)
    assert (told["share"], told["agreement"], told["compared"]) == (0.0, agreement, 6)
    assert told["champion"]["version"] == "1"
    assert told["champion"]["requests"] == 6
    assert told["challenger"]["version"] == version
    assert told["challenger"]["errors"] == told["challenger"]["dropped"] == 0
    assert told["challenger"]["mean_ms"] > 0
    assert told["challenger"]["metrics"] == {"mse": 2900.0}
    main(["challenger", NAME, "--report", "--url", server.url])
    printed = capsys.readouterr().out
    assert f"alike: {agreement:.4f} of 6" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_share_of_keys(
    server: Server, client: httpx.Client, challenge: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    challenge(NAME, "2", "--share", "30%")
    keys = [f"customer {number}" for number in range(100)]
    answered = {key: ask(client, **{"X-Request-Key": key}) for key in keys}
    assert set(answered.values()) == {("1", BIAS["1"]), ("2", BIAS["2"])}
    assert [key for key in keys if answered[key][0] == "2"] == [k for k in keys if place(k.encode()) < 0.3]
    again = {key: ask(client, "energy", **{"X-Request-Key": key}) for key in keys}
    assert again == answered
    counted = Counter(version for version, _ in answered.values())
    told = report(server, capsys)
    assert told["share"] == 0.3
    assert (told["champion"]["requests"], told["challenger"]["requests"]) == (
        2 * counted["1"],
        2 * counted["2"],
    )
    assert told["agreement"] is None, "nothing was computed twice"


def test_without_a_key_the_body_is_the_key(client: httpx.Client, challenge: Callable[..., None]) -> None:
    challenge(NAME, "2", "--share", "0.5")
    bodies = [json.dumps({"model": NAME, "rows": [[n, 0]]}).encode() for n in range(60)]

    def version(body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        return client.post("/regress", content=body, headers=headers).json()["lineage"]["version"]

    expected = ["2" if place(body) < 0.5 else "1" for body in bodies]
    assert [version(body) for body in bodies] == expected
    assert set(expected) == {"1", "2"}


def test_the_open_inference_protocol(client: httpx.Client, challenge: Callable[..., None]) -> None:
    challenge(NAME, "2", "--share", "100%")
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}

    def version(path: str) -> str:
        return client.post(f"/v2/models/{path}/infer", json={"inputs": [tensor]}).json()["model_version"]

    assert version(NAME) == version("energy") == "2"
    assert version(f"{NAME}/versions/champion") == version(f"{NAME}/versions/1") == "1"
    assert version(f"{NAME}/versions/challenger") == "2"
    assert version(f"{NAME}/versions/3") == "3"


def test_texts_are_shared(client: httpx.Client, challenge: Callable[..., None]) -> None:
    challenge(WRITER, "2", "--share", "100%")
    body = {"model": WRITER, "prompt": "abc", "max_tokens": 3}
    assert client.post("/generate_text", json=body).json()["lineage"]["version"] == "2"
    generated = client.post(f"/v2/models/{WRITER}/generate", json={"text_input": "abc", "max_tokens": 3})
    assert generated.json()["model_version"] == "2"


def test_a_challenger_that_fails_is_not_the_champions_fault(
    registry: TinyRegistry, server: Server, client: httpx.Client, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Of another size, it cannot compute what the champion is asked."""
    name = "lenet5-stamps"
    registry.promote(name, registry.register(write_images(tmp_path / "small", name=name)))
    larger = registry.register(write_images(tmp_path / "large", name=name, side=12))
    wait_for(lambda: client.get(f"/models/{name}").status_code == 200)
    promotion.challenge(name, larger, ChallengerMode())
    wait_for(lambda: active(client).get(name) == larger)
    request = client.get(f"/models/{name}").json()["example_request"]
    assert client.post("/classify_image", json=request).json()["lineage"]["version"] == "1"
    failed = f'challenger="{larger}",champion="1",mode="shadow",model="{name}",outcome="5xx"'
    wait_for(lambda: failed in client.get("/metrics").text)
    promotion.end_challenge(name)
    wait_for(lambda: name not in active(client))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["challenger", name, "--report", "--url", server.url])
    assert f"zoo challenger {name} VERSION" in capsys.readouterr().err


def test_promotion_ends_the_challenge(
    registry: TinyRegistry, client: httpx.Client, challenge: Callable[..., None]
) -> None:
    challenge(NAME, "3", "--share", "0.5")
    main(["promote", NAME, "3"])
    wait_for(lambda: NAME not in active(client))
    wait_for(lambda: ask(client)[0] == "3")
    main(["rollback", NAME])
    wait_for(lambda: ask(client)[0] == "1")
    tags = registry.client.get_model_version(NAME, "3").tags
    assert "challenger_mode" not in tags
