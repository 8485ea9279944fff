"""The three endpoints as clients use them: by hand, with forms and with BentoML's client."""

import base64
import gzip
import io
import zlib
from pathlib import Path

import bentoml
import httpx
import numpy as np
import pytest
from PIL import Image
from server import Server
from tiny_zoo import SIDE

LINEAGE = {"model", "version", "run_id", "digest", "provider"}


@pytest.fixture(scope="module")
def picture() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def answer(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body["lineage"]) == LINEAGE
    assert body["lineage"]["version"].isdigit()
    assert body["lineage"]["provider"] == "CPUExecutionProvider"
    return body


def test_regress_lists_and_objects_in_order(client: httpx.Client) -> None:
    rows = [[1, 2], {"mass": 10, "age": 0}, [0, 0]]
    body = answer(client.post("/regress", json={"model": "linear_regression-diabetes", "rows": rows}))
    assert body["predictions"] == [{"value": v, "unit": "points"} for v in (6.0, 21.0, 1.0)]
    assert body["lineage"]["model"] == "linear_regression-diabetes"


def test_classify(client: httpx.Client) -> None:
    body = answer(client.post("/classify", json={"model": "perceptron-iris", "rows": [[1, 2], [3, 4]]}))
    assert len(body["predictions"]) == 2
    for prediction in body["predictions"]:
        probabilities = list(prediction["probabilities"].values())
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert prediction["label"] == next(iter(prediction["probabilities"]))


def test_a_data_set_answers_with_its_model(client: httpx.Client, picture: bytes) -> None:
    image = base64.b64encode(picture).decode()
    body = answer(client.post("/classify_image", json={"model": "mnist", "image": image}))
    assert body["lineage"]["model"] == "lenet5-mnist"


def test_every_form_of_an_image_gives_the_same_answer(client: httpx.Client, picture: bytes) -> None:
    image = base64.b64encode(picture).decode()
    pixels = np.asarray(Image.open(io.BytesIO(picture))).tolist()
    one = answer(client.post("/classify_image", json={"model": "lenet5-mnist", "image": image}))
    for fields in ({"image": [image]}, {"image": f"data:image/png;base64,{image}"}, {"pixels": pixels}):
        body = answer(client.post("/classify_image", json={"model": "lenet5-mnist", **fields}))
        assert body == one
    form = {"model": "lenet5-mnist"}
    file = ("digit.png", picture, "image/png")
    assert answer(client.post("/classify_image", data=form, files={"image": file})) == one
    as_text = [("model", (None, "lenet5-mnist")), ("image", (None, image))]
    assert answer(client.post("/classify_image", files=as_text)) == one


def test_a_form_with_several_images(client: httpx.Client, picture: bytes) -> None:
    files = [("image", (f"{i}.png", picture, "image/png")) for i in range(3)]
    body = answer(client.post("/classify_image", data={"model": "mnist", "top_k": "2"}, files=files))
    assert [len(p["probabilities"]) for p in body["predictions"]] == [2, 2, 2]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate"])
def test_compressed_bodies(client: httpx.Client, coding: str) -> None:
    plain = b'{"model": "diabetes", "rows": [[1, 2]]}'
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "gzip": gzip.compress(plain),
        "deflate": zlib.compress(plain),
        "raw deflate": raw.compress(plain) + raw.flush(),
    }
    headers = {"Content-Encoding": coding.rsplit(maxsplit=1)[-1], "Content-Type": "application/json"}
    assert answer(client.post("/regress", content=bodies[coding], headers=headers))["predictions"]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [("gzip", "gzip"), ("deflate", "deflate"), ("br, *;q=0.1", "gzip"), ("gzip;q=0", None), ("", None)],
)
def test_long_answers_are_compressed_on_demand(client: httpx.Client, accept: str, coding: str | None) -> None:
    request = {"model": "diabetes", "rows": [[1, 2]] * 4096}
    response = client.post("/regress", json=request, headers={"Accept-Encoding": accept})
    assert response.headers.get("content-encoding") == coding
    assert response.headers["vary"] == "accept-encoding"
    assert len(answer(response)["predictions"]) == 4096


def test_bentoml_client(server: Server, tmp_path: Path, picture: bytes) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(picture)
    with bentoml.SyncHTTPClient(server.url) as client:
        assert client.regress(model="diabetes", rows=[[1, 2]])["predictions"][0]["value"] == 6
        assert client.classify(model="iris", rows=[[1, 2]])["lineage"]["model"] == "perceptron-iris"
        assert client.classify_image(model="mnist", image=path)["predictions"][0]["label"]
        body = client.classify_image(model="mnist", image=[path, path], top_k=1)
        assert len(body["predictions"]) == 2
        client._temp_dir.cleanup()  # which it leaves to the garbage collector, and that warns


def test_chunked_body(client: httpx.Client) -> None:
    pieces = (b'{"model": "diabetes",', b' "rows": ', b"[[1, 2]]}")
    headers = {"Content-Type": "application/json"}
    assert answer(client.post("/regress", content=iter(pieces), headers=headers))["predictions"]


def test_sixteen_bit_images_are_scaled(client: httpx.Client) -> None:
    """A 16-bit picture gives the same answer as its 8-bit twin."""
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    answers = []
    for samples in (pixels, pixels.astype(np.uint16) * 257):
        buffer = io.BytesIO()
        Image.fromarray(samples).save(buffer, "PNG")
        image = base64.b64encode(buffer.getvalue()).decode()
        answers.append(answer(client.post("/classify_image", json={"model": "mnist", "image": image})))
    assert answers[0] == answers[1]


def test_an_answer_beyond_the_range_of_its_numbers_is_refused(client: httpx.Client) -> None:
    model, rows = "linear_regression-diabetes", [[3e38, 3e38]]
    refused = client.post("/regress", json={"model": model, "rows": rows})
    assert refused.status_code == 422
    assert "too large" in refused.json()["error"]
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": rows}
    assert client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]}).status_code == 400


def test_messages_of_files_that_are_none(client: httpx.Client) -> None:
    for image, message in (
        (5, "image: Input should be a valid string"),
        ([], "image: List should have at least"),
    ):
        refused = client.post("/classify_image", json={"model": "mnist", "image": image})
        assert refused.status_code == 422
        assert refused.json()["error"].startswith(message)
