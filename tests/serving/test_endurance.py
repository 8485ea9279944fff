"""A million requests: each is answered as it should be, and the service takes no more memory."""

import json
from collections import Counter
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from server import memory, running
from tiny_zoo import SIDE, write_images, write_regression

from tests.benchmarks.load import Load, drive, post

REQUESTS, FIRST = 1_000_000, 50_000
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
