"""A million requests, and thousands of large ones: all are answered, and the service takes no more memory."""

import io
import json
from collections import Counter
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from server import memory, running
from tiny_zoo import SIDE, write_images, write_regression

from tests.benchmarks.load import Load, drive, post

REQUESTS, FIRST = 1_000_000, 50_000
LARGE_REQUESTS, FIRST_LARGE = 2000, 200
CONNECTIONS = 16
TURN = 5.0  # seconds that requests of one kind are sent
GROWTH = 0.05  # share of its memory that the service may have grown
MODEL = "linear_regression-diabetes"


def kinds() -> dict[str, tuple[int, bytes]]:
    """Requests, and the status that they are answered with."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    tensor = {
        "name": "image", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 1],
        "parameters": {"binary_data_size": pixels.size},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor]}).encode()

    def as_json(path: str, **body: object) -> bytes:
        return post(path, json.dumps(body).encode(), "application/json")

    return {
        "rows": (200, as_json("/regress", model=MODEL, rows=[[1, 2], [3, 4]])),
        "pixels": (200, as_json("/classify_image", model="lenet5-mnist", pixels=pixels.tolist())),
        "tensors": (
            200,
            post(
                "/v2/models/lenet5-mnist/infer", head + pixels.tobytes(), "application/octet-stream",
                f"Inference-Header-Content-Length: {len(head)}",
            ),
        ),
        "another model": (404, as_json("/regress", model="nobody", rows=[[1, 2]])),
        "another shape": (422, as_json("/regress", model=MODEL, rows=[[1, 2, 3]])),
        "no JSON": (400, post("/regress", b"{", "application/json")),
    }  # fmt: skip


@pytest.mark.soak
def test_a_million_requests(tmp_path: Path) -> None:
    write_regression(tmp_path / "bundles" / "regression")
    write_images(tmp_path / "bundles" / "images")
    sent, before = Counter[str](), 0
    with running(tmp_path / "log", ZOO_BUNDLES=str(tmp_path / "bundles")) as server:
        port = urlparse(server.url).port
        assert port is not None
        while sent.total() < REQUESTS:
            for name, (status, request) in kinds().items():
                outcome = drive(Load(port, request, CONNECTIONS, TURN))
                assert set(outcome.statuses) == {status}, (name, outcome.statuses)
                sent[name] += outcome.statuses[status]
            if not before and sent.total() >= FIRST:
                before = memory(server)
        after = memory(server)
    print(f"{sent}: {before / 1e6:.0f} MB after the first {FIRST:,}, {after / 1e6:.0f} MB in the end")  # noqa: T201
    assert after < (1 + GROWTH) * before


def as_form(image: bytes) -> bytes:
    """A form with the model's name and an image."""
    part = b"--XX\r\nContent-Disposition: form-data; name="
    body = (
        part + b'"model"\r\n\r\nlenet5-mnist\r\n'
        + part + b'"image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + image + b"\r\n--XX--\r\n"
    )  # fmt: skip
    return post("/classify_image", body, "multipart/form-data; boundary=XX")


def large_kinds() -> dict[str, bytes]:
    """Requests of the sizes that people send: a PNG of 7 MB, and 64 images of 28 x 28 pixels as JSON."""
    random = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (1520, 1520, 3), dtype=np.uint8)).save(
        file, "PNG", compress_level=1
    )
    assert 6_900_000 < len(file.getvalue()) < 7_100_000
    pixels = random.integers(0, 256, (64, 28, 28), dtype=np.uint8).tolist()
    body = json.dumps({"model": "lenet5-large", "pixels": pixels}).encode()
    return {
        "uploads": as_form(file.getvalue()),
        "64 images": post("/classify_image", body, "application/json"),
    }


@pytest.mark.soak
def test_thousands_of_large_requests(tmp_path: Path) -> None:
    write_images(tmp_path / "bundles" / "images")
    write_images(tmp_path / "bundles" / "large", name="lenet5-large", side=28)
    with running(tmp_path / "log", ZOO_BUNDLES=str(tmp_path / "bundles")) as server:
        port = urlparse(server.url).port
        assert port is not None
        for name, request in large_kinds().items():
            sent, before = 0, 0
            while sent < LARGE_REQUESTS:
                outcome = drive(Load(port, request, CONNECTIONS, 2.0))
                assert set(outcome.statuses) == {200}, (name, outcome.statuses)
                sent += outcome.statuses[200]
                if not before and sent >= FIRST_LARGE:
                    before = memory(server)
            after = memory(server)
            print(f"{name}: {sent}, {before / 1e6:.0f} MB after the first, {after / 1e6:.0f} MB in the end")  # noqa: T201
            assert after < (1 + GROWTH) * before
