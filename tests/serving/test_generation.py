"""`/generate_images` through the real service: JSON, one PNG, BentoML's client and the command line."""

import base64
import io
from pathlib import Path

import bentoml
import httpx
import numpy as np
import pytest
from PIL import Image
from server import Server
from tiny_zoo import DIGITS, SIDE, TinyRegistry

from zoo.cli import main
from zoo.images import GAP

HEADERS = ("x-zoo-model", "x-zoo-version", "x-zoo-run-id", "x-zoo-digest", "x-zoo-provider")


def generate(client: httpx.Client, accept: str = "*/*", **fields: object) -> httpx.Response:
    request = {"model": "gan-mnist", **fields}
    response = client.post("/generate_images", json=request, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=("PNG",))).astype(int)


def images(body: dict) -> list[np.ndarray]:
    return [pixels(base64.b64decode(image)) for image in body["images"]]


def test_json(client: httpx.Client) -> None:
    response = generate(client, count=12, seed=3)
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"images", "classes", "seed", "lineage"}
    assert body["classes"] == [*DIGITS, "0", "1"]
    assert body["seed"] == 3
    assert body["lineage"]["model"] == "gan-mnist"
    for k, image in enumerate(images(body)[:SIDE]):
        assert image.shape == (SIDE, SIDE)
        assert image.mean(axis=1).argmax() == k, "row k of class k is the bright one"


def test_the_same_seed_gives_the_same_images(client: httpx.Client) -> None:
    twice = [generate(client, count=5, seed=9).json() for _ in range(2)]
    assert twice[0] == twice[1]
    assert generate(client, count=2, seed=9).json()["images"] == twice[0]["images"][:2]
    assert generate(client, count=5, seed=10).json()["images"][0] != twice[0]["images"][0]
    drawn = [generate(client).json() for _ in range(2)]
    assert drawn[0]["seed"] != drawn[1]["seed"]
    again = generate(client, seed=drawn[0]["seed"]).json()
    assert again["images"] == drawn[0]["images"]


@pytest.mark.parametrize("wanted", ["3", 3])
def test_one_class(client: httpx.Client, wanted: str | int) -> None:
    body = generate(client, count=4, seed=0, **{"class": wanted}).json()
    assert body["classes"] == ["3"] * 4
    assert {image.mean(axis=1).argmax() for image in images(body)} == {3}
    assert len(set(body["images"])) == 4, "the latent varies them"


def test_a_grid_of_all_images(client: httpx.Client) -> None:
    json, png = (generate(client, accept, count=10, seed=1) for accept in ("application/json", "image/png"))
    assert png.headers["content-type"] == "image/png"
    assert "content-encoding" not in png.headers
    lineage = json.json()["lineage"]
    assert [png.headers[name] for name in HEADERS] == list(lineage.values())
    assert not set(HEADERS) & set(json.headers)
    shown = pixels(png.content)
    step = SIDE + GAP
    assert shown.shape == (3 * step - GAP, 4 * step - GAP)
    for i, image in enumerate(images(json.json())):
        row, column = i // 4 * step, i % 4 * step
        np.testing.assert_array_equal(shown[row : row + SIDE, column : column + SIDE], image)
    assert Image.open(io.BytesIO(png.content)).info["seed"] == "1"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html", "application/json"),
        ("image/png;q=0", "application/json"),
        ("image/png;q=0.4, application/json", "application/json"),
        ("image/png;q=high", "application/json"),
        ("image/png;q=nan", "application/json"),
        ("Image/PNG", "image/png"),
        ("image/*", "image/png"),
        ("application/json;q=0.2,image/png;q=0.3", "image/png"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/png"),
        ("image/png; level=1; q=0.9, */*;q=0.1", "image/png"),
        (",;q=,image/png,", "image/png"),
    ],
)
def test_accept(client: httpx.Client, accept: str, media_type: str) -> None:
    assert generate(client, accept, seed=0).headers["content-type"] == media_type


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"count": 0}, ["count", "1"]),
        ({"count": 257}, ["count", "256"]),
        ({"count": "2"}, ["count"]),
        ({"seed": -1}, ["seed"]),
        ({"seed": 2**53}, ["seed"]),
        ({"seed": 10**4000}, []),
        ({"class": "ten"}, ["class", *DIGITS]),
        ({"class": 10}, ["class", *DIGITS]),
        ({"class": [1]}, ["class"]),
        ({"klass": "1", "images": 3}, ["klass", "images"]),
        ({"model": "lenet5-mnist"}, ["/classify_image"]),
        ({"model": "mnist"}, ["/classify_image"]),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("accept", ["application/json", "image/png"])
def test_what_does_not_fit(client: httpx.Client, fields: dict, words: list[str], accept: str) -> None:
    body = {"model": "gan-mnist", **fields}
    response = client.post("/generate_images", json=body, headers={"Accept": accept})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    for word in words:
        assert word in response.json()["error"]


def test_forms_are_for_endpoints_that_take_files(client: httpx.Client) -> None:
    assert client.post("/generate_images", files={"model": (None, "gan-mnist")}).status_code == 415


def test_other_endpoints_name_the_generators(client: httpx.Client) -> None:
    response = client.post("/classify_image", json={"model": "gan-mnist", "image": "aaaa"})
    assert response.status_code == 422
    assert "/generate_images" in response.json()["error"]


def test_bentoml_client(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        body = client.generate_images(model="gan-mnist", count=3, seed=2, **{"class": "7"})
        assert body["classes"] == ["7"] * 3
        assert len(images(body)) == 3
        assert client.generate_images(model="gan-mnist")["classes"] == ["0"]
        client._temp_dir.cleanup()  # which it leaves to the garbage collector, and that warns


# The command line


@pytest.fixture
def _at_home(registry: TinyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(registry.home))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # other tests' registries
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_at_home")
def test_zoo_generate(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked, ran, default = tmp_path / "asked.png", tmp_path / "ran.png", tmp_path / "grid.png"
    words = ["generate", "gan-mnist", "--count", "4", "--seed", "6", "--class", "2"]
    main([*words, "--url", server.url, "--out", str(asked)])
    assert capsys.readouterr().out.split(":")[0] == "4 images of gan-mnist version 1, seed 6"
    main([*words, "--local", "--out", str(ran)])
    assert asked.read_bytes() == ran.read_bytes()
    assert pixels(ran.read_bytes())[:SIDE, :SIDE].mean(axis=1).argmax() == 2
    monkeypatch.chdir(tmp_path)
    main(["generate", "gan-mnist", "--url", server.url])
    assert f"seed {Image.open(io.BytesIO(default.read_bytes())).info['seed']}:" in capsys.readouterr().out
    assert pixels(default.read_bytes()).shape == (4 * (SIDE + GAP) - GAP,) * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "mnist"], "mnist is no generator of images; zoo predict mnist asks it"),
        (["generate", "perceptron-iris"], "perceptron-iris is no generator of images"),
        (["predict", "gan-mnist", "1,2"], "gan-mnist takes no inputs; zoo generate gan-mnist asks it"),
        (["generate", "nope"], "no model answers to this name"),
        (["generate", "gan-mnist", "--class", "ten"], "class: no such label; the model's labels are 0, 1"),
        (["generate", "gan-mnist", "--count", "0"], "count: "),
        (["generate", "gan-mnist", "--out", "/nowhere/grid.png"], "cannot write /nowhere/grid.png: No such"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_what_the_command_line_refuses(
    server: Server, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--url", server.url])
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("_at_home")
@pytest.mark.parametrize(
    "words", [["generate", "mlp-mnist"], ["generate", "mnist"], ["predict", "gan-mnist", "1"]], ids=" ".join
)
def test_a_local_bundle_of_another_kind(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--local"])
    assert "asks it" in capsys.readouterr().err
