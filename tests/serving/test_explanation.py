"""`/explain_image` through the real service, on a model that looks at one corner."""

import base64
import io
from pathlib import Path

import bentoml
import httpx
import numpy as np
import pytest
from PIL import Image
from server import Server
from tiny_zoo import CORNER, DIGITS, SIDE

from zoo.images import encode_png

HEADERS = ("x-zoo-model", "x-zoo-version", "x-zoo-run-id", "x-zoo-digest", "x-zoo-provider")
PIXELS = np.full((SIDE, SIDE, 1), 100, np.uint8)
PIXELS[CORNER] = 255
IMAGE = encode_png(PIXELS)
TEXT = base64.b64encode(IMAGE).decode()
AS_JSON = {"Accept": "application/json"}


def explain(client: httpx.Client, headers: dict[str, str], **fields: object) -> httpx.Response:
    request = {"model": "mlp-corner", "image": TEXT, **fields}
    response = client.post("/explain_image", json=request, headers=headers)
    assert response.status_code == 200, response.text
    return response


def test_json(client: httpx.Client) -> None:
    response = explain(client, AS_JSON)
    body = response.json()
    assert body.keys() == {"label", "probability", "heatmap", "lineage"}
    assert body["lineage"]["model"] == "mlp-corner"
    classified = client.post("/classify_image", json={"model": "mlp-corner", "image": TEXT}).json()
    (prediction,) = classified["predictions"]
    assert body["label"] == prediction["label"] == "1"
    assert body["probability"] == pytest.approx(prediction["probabilities"]["1"], abs=1e-6)
    heat = np.array(body["heatmap"])
    assert heat.shape == (SIDE, SIDE)
    assert np.unravel_index(heat.argmax(), heat.shape) <= (2, 2)
    assert np.abs(heat[4:, 4:]).max() < 1e-6


def test_a_picture_unless_json_is_asked_for(client: httpx.Client) -> None:
    pictures = [explain(client, {"Accept": accept}) for accept in ("*/*", "image/png", "text/html", "")]
    for response in pictures:
        assert response.headers["content-type"] == "image/png"
        assert response.content == pictures[0].content
    lineage = explain(client, AS_JSON).json()["lineage"]
    assert [pictures[0].headers[name] for name in HEADERS] == list(lineage.values())
    picture = Image.open(io.BytesIO(pictures[0].content))
    assert picture.size == (224, 224)
    assert picture.info["label"] == "1"
    both = {"Accept": "image/png;q=0.5, application/json"}
    assert explain(client, both).headers["content-type"] == "application/json"


def test_another_label(client: httpx.Client) -> None:
    one, two = (explain(client, AS_JSON, label=label).json() for label in ("1", "2"))
    assert (one["label"], two["label"]) == ("1", "2")
    assert one == explain(client, AS_JSON).json()
    assert np.min(two["heatmap"]) < 0, "covering the corner adds to every other label"


def test_every_form_of_the_image(client: httpx.Client) -> None:
    one = explain(client, AS_JSON).json()
    assert explain(client, AS_JSON, image=None, pixels=PIXELS.tolist()).json() == one
    assert explain(client, AS_JSON, image=[f"data:image/png;base64,{TEXT}"]).json() == one
    form = {"model": "mlp-corner", "label": "1"}
    response = client.post("/explain_image", data=form, files={"image": IMAGE}, headers=AS_JSON)
    assert response.json() == one


def test_photos_in_colour(client: httpx.Client) -> None:
    """A larger model, whose copies are computed in a thread."""
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    text = base64.b64encode(encode_png(photo)).decode()
    response = client.post("/explain_image", json={"model": "photos", "image": text, "label": "warm"})
    assert Image.open(io.BytesIO(response.content)).size == (288, 288)
    body = client.post("/explain_image", json={"model": "photos", "image": text}, headers=AS_JSON).json()
    assert np.shape(body["heatmap"]) == (96, 96)


def test_bentoml_client(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(IMAGE)
    with bentoml.SyncHTTPClient(server.url) as client:
        picture = client.explain_image(model="mlp-corner", image=path, label="1")
        assert picture.size == (224, 224)
        client._temp_dir.cleanup()  # which it leaves to the garbage collector, and that warns


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"label": "ten"}, ["label", *DIGITS]),
        ({"label": 10}, ["label", *DIGITS]),
        ({"label": 1.5}, ["label"]),
        ({"image": [TEXT, TEXT]}, ["2 images; one is explained at a time"]),
        ({"image": None, "pixels": [np.zeros((SIDE, SIDE), int).tolist()] * 2}, ["2 images"]),
        ({"image": None}, ["image", "pixels"]),
        ({"image": "aaaa"}, ["PNG or JPEG"]),
        ({"top_k": 1}, ["top_k"]),
        ({"model": "perceptron-iris"}, ["/classify"]),
        ({"model": "iris", "label": []}, ["/classify"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit(client: httpx.Client, fields: dict, words: list[str]) -> None:
    request = {"model": "mlp-corner", "image": TEXT, **fields}
    response = client.post("/explain_image", json=request)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    for word in words:
        assert word in response.json()["error"]


def test_several_uploads_are_too_many(client: httpx.Client) -> None:
    files = [("image", IMAGE), ("image", IMAGE)]
    response = client.post("/explain_image", data={"model": "mlp-corner"}, files=files)
    assert response.status_code == 422
    assert "2 images; one is explained at a time" in response.json()["error"]
