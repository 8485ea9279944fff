"""Image files as people have them, through the real service to the answer that they deserve."""

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.Image import Transpose
from tiny_zoo import DIGITS, SIDE

pytestmark = pytest.mark.usefixtures("unharmed")

# A bright corner on black: a 1, as the model of `tiny_zoo.write_corner` sees it.
BRIGHT = np.zeros((SIDE, SIDE), np.uint8)
BRIGHT[:3, :3] = 255
CORNER = Image.fromarray(BRIGHT.repeat(40, axis=0).repeat(40, axis=1))
ORIENTATIONS = {  # EXIF value: how a camera that was held so stores what is upright
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def classify(client: httpx.Client, *files: bytes, model: str = "mlp-corner", **fields: str) -> list[dict]:
    """Predictions, of a form that must agree with JSON."""
    uploads = [("image", (f"{i}.bin", data, "image/x-whatever")) for i, data in enumerate(files)]
    response = client.post("/classify_image", data={"model": model, **fields}, files=uploads)
    assert response.status_code == 200, response.text
    texts = [base64.b64encode(data).decode() for data in files]
    body = {"model": model, "image": texts, **{name: int(value) for name, value in fields.items()}}
    assert client.post("/classify_image", json=body).json() == response.json()
    predictions: list[dict] = response.json()["predictions"]
    return predictions


def probability(client: httpx.Client, data: bytes) -> float:
    """That it is a 1."""
    (prediction,) = classify(client, data)
    return float(prediction["probabilities"]["1"])


ONE = pytest.approx(np.exp(9) / (np.exp(9) + 9), abs=0.01)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png(client: httpx.Client, mode: str) -> None:
    image = (
        CORNER.convert("I").point(lambda v: v * 257).convert("I;16")
        if mode == "I;16"
        else CORNER.convert(mode)
    )
    assert image.mode == mode
    assert probability(client, file_of(image)) == ONE


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg(client: httpx.Client, mode: str) -> None:
    assert probability(client, file_of(CORNER.convert(mode), "JPEG")) == ONE


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(("value", "stored"), ORIENTATIONS.items())
def test_every_orientation(client: httpx.Client, kind: str, value: int, stored: Transpose | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    image = CORNER if stored is None else CORNER.transpose(stored)
    assert (probability(client, file_of(image)) == ONE) == (value in (1, 5)), "without the tag"
    assert probability(client, file_of(image, kind, exif=exif)) == ONE


@pytest.mark.parametrize(("value", "stored"), ORIENTATIONS.items())
def test_large_photos_of_odd_sizes_are_explained_where_they_are_bright(
    client: httpx.Client, value: int, stored: Transpose | None
) -> None:
    """The sides are no multiples of 8, by which the decoder divides them."""
    large = CORNER.resize((1303, 1597), Image.Resampling.NEAREST)  # the largest centred square begins at 147
    large.paste(large.crop((0, 0, 489, 489)), (0, 147))
    exif = Image.Exif()
    exif[0x0112] = value
    data = file_of(large if stored is None else large.transpose(stored), "JPEG", exif=exif)
    form = {"model": "mlp-corner", "label": "1"}
    asked = client.post(
        "/explain_image", data=form, files={"image": data}, headers={"Accept": "application/json"}
    )
    assert asked.status_code == 200, asked.text
    heat = np.array(asked.json()["heatmap"])
    assert asked.json()["probability"] == ONE
    assert np.unravel_index(heat.argmax(), heat.shape) <= (2, 2)
    assert np.abs(heat[4:, 4:]).max() < 1e-6


def test_every_form_of_base64(client: httpx.Client) -> None:
    data = file_of(CORNER.convert("RGB"), "JPEG", comment=b"\xff" * 7)
    text, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    assert text != url
    for image in (
        text,
        url,
        text.rstrip("="),
        url.rstrip("="),
        f"data:image/jpeg;charset=utf-8;BASE64,{url}",
    ):
        answer = client.post("/classify_image", json={"model": "mlp-corner", "image": image})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["probabilities"]["1"] == ONE
    for image in (text[1:], text + "%", text + "-_"):
        answer = client.post("/classify_image", json={"model": "mlp-corner", "image": image})
        assert answer.status_code == 422
        assert "image: not valid base64" in answer.json()["error"]


def test_what_is_transparent_is_white(client: httpx.Client) -> None:
    image = Image.new("RGBA", CORNER.size, "black")
    image.putalpha(ImageOps.invert(CORNER))
    assert probability(client, file_of(image)) == ONE
    palette = Image.fromarray(np.asarray(CORNER) // 255, "P")
    palette.putpalette([0, 0, 0, 1, 1, 1])
    assert probability(client, file_of(palette)) != ONE
    assert probability(client, file_of(palette, transparency=1)) == ONE


def test_the_first_frame_of_an_animation(client: httpx.Client) -> None:
    black = Image.new("L", CORNER.size)
    animation = file_of(CORNER, save_all=True, append_images=[black, black], duration=100)
    assert probability(client, animation) == ONE


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (7, 9), (3, 1000), (1000, 3), (2000, 1500)], ids=str)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_any_size(client: httpx.Client, size: tuple[int, int], kind: str) -> None:
    warm, cold = (file_of(Image.new("RGB", size, colour), kind) for colour in ("orange", "navy"))
    first, second = classify(client, warm, cold, model="alexnet-photos")
    assert (first["label"], second["label"]) == ("warm", "cold")


def test_the_centre_of_a_wide_photo(client: httpx.Client) -> None:
    wide = Image.new("L", (3 * CORNER.width, CORNER.height), "white")
    wide.paste(CORNER, (CORNER.width, 0))
    assert probability(client, file_of(wide)) == ONE


def test_grey_photos_for_a_model_of_colours(client: httpx.Client) -> None:
    for mode in ("L", "LA", "1", "I;16"):
        (prediction,) = classify(client, file_of(Image.new(mode, (50, 40))), model="alexnet-photos")
        assert prediction["probabilities"] == pytest.approx({"warm": 0.5, "cold": 0.5})


def test_many_uploads_in_one_form_come_back_in_order(client: httpx.Client) -> None:
    dark = Image.new("L", (30, 50))
    files = [
        file_of(CORNER),
        file_of(dark),
        file_of(CORNER, "JPEG"),
        file_of(dark, "JPEG"),
        file_of(CORNER),
    ] * 20
    predictions = classify(client, *files, top_k="1")
    assert [p["probabilities"].get("1") == ONE for p in predictions] == [True, False, True, False, True] * 20


@pytest.mark.parametrize(("top_k", "count"), [("1", 1), ("3", 3), ("10", 10), ("99", 10)])
def test_top_k(client: httpx.Client, top_k: str, count: int) -> None:
    (prediction,) = classify(client, file_of(CORNER), top_k=top_k)
    assert len(prediction["probabilities"]) == count
    assert next(iter(prediction["probabilities"])) == prediction["label"] == "1"
    assert set(prediction["probabilities"]) <= set(DIGITS)


@pytest.mark.parametrize("top_k", ["0", "-1", "1.5", "all", '"2"'])
def test_top_k_that_is_no_number_of_labels(client: httpx.Client, top_k: str) -> None:
    form = {"model": "mlp-corner", "top_k": top_k}
    response = client.post("/classify_image", data=form, files={"image": file_of(CORNER)})
    assert response.status_code == 422
    assert "top_k" in response.json()["error"]
