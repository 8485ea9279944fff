"""JSON of millions of values: counted before it is parsed, and parsed where it holds up nobody."""

import gzip
import json
import threading
import time
from collections.abc import Callable

import httpx
import numpy as np
import psutil
import pytest
from server import Server
from test_errors import JSON, refused

from serving.json_size import MAX_VALUES, SMALL, SMALL_TEXT, json_size

pytestmark = pytest.mark.usefixtures("unharmed")

SIZE = 8 << 20  # bytes
LATEST = 0.2
"""Seconds that another request may take meanwhile; on the event loop, parsing would take several."""
HEADERS = {**JSON, "Content-Encoding": "gzip"}
GROWTH = 10  # times the plain body


def filled(before: str, unit: str, after: str) -> bytes:
    text = before + unit * ((SIZE - len(before) - len(after)) // len(unit)) + after
    return text.encode()


def members(before: str, after: str) -> bytes:
    text = before + ",".join(f'"k{number}":0' for number in range(SIZE // 12)) + after
    return text.encode()


TABLE = '{"model":"diabetes"'
IMAGE = '{"model":"mnist"'
TEXT = '{"model":"rnn-letters"'
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "rows without values": ("/regress", lambda: filled(f'{TABLE},"rows":[[]', ",[]", "]}")),
    "rows of one value": ("/regress", lambda: filled(f'{TABLE},"rows":[[0]', ",[0]", "]}")),
    "a row of millions": ("/regress", lambda: filled(f'{TABLE},"rows":[[0', ",0", "]]}")),
    "rows that are texts": ("/regress", lambda: filled(f'{TABLE},"rows":["a"', ',"a"', "]}")),
    "unknown fields": ("/regress", lambda: members(f"{TABLE},", "}")),
    "unknown features": ("/regress", lambda: members(f'{TABLE},"rows":[{{', "}]}")),
    "images that are lists": ("/classify_image", lambda: filled(f'{IMAGE},"image":[[]', ",[]", "]}")),
    "spaces in lists": ("/classify_image", lambda: filled(f'{IMAGE},"pixels":[[ ]', ",[ ]", "]}")),
    "pixels alone": ("/classify_image", lambda: filled(f'{IMAGE},"pixels":[[0]', ",[0]", "]}")),
    "pixels in a row": ("/classify_image", lambda: filled(f'{IMAGE},"pixels":[0', ",0", "]}")),
    "deep pixels": ("/classify_image", lambda: filled(f'{IMAGE},"pixels":', "[", "}")),
    "stops that are objects": ("/generate_text", lambda: filled(f'{TEXT},"stop":[{{}}', ",{}", "]}")),
    "stops that are numbers": ("/generate_text", lambda: filled(f'{TEXT},"stop":[0', ",0", "]}")),
    "messages": ("/generate_text", lambda: filled(f'{TEXT},"messages":[0', ",0", "]}")),
    "prompts of a token": ("/v1/completions", lambda: filled(f'{TEXT},"prompt":[[0]', ",[0]", "]}")),
    "prompts": ("/v1/completions", lambda: filled(f'{TEXT},"prompt":["a"', ',"a"', "]}")),
    "a prompt of tokens": ("/v1/completions", lambda: filled(f'{TEXT},"prompt":[0', ",0", "]}")),
    "unknown parameters": ("/v1/completions", lambda: members(f'{TEXT},"prompt":"a",', "}")),
    "biases": ("/v1/completions", lambda: members(f'{TEXT},"prompt":"a","logit_bias":{{', "}}")),
    "messages of nothing": ("/v1/chat/completions", lambda: filled(f'{TEXT},"messages":[{{}}', ",{}", "]}")),
    "inputs": ("/v2/models/diabetes/infer", lambda: filled('{"inputs":[{}', ",{}", "]}")),
    "parameters": ("/v2/models/diabetes/infer", lambda: members('{"inputs":[],"parameters":{', "}}")),
    "parameters of a text": ("/v2/models/rnn-letters/generate", lambda: members('{"text_input":"a",', "}")),
    "an index": ("/v2/repository/index", lambda: members("{", "}")),
}


class Meanwhile:
    """Asks whether the service is alive, again and again, and keeps the longest time that it took."""

    def __init__(self, server: Server) -> None:
        self.longest_seconds = 0.0
        self._url = f"{server.url}/livez"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Meanwhile":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client() as client:
            while not self._ended.wait(0.02):
                begun = time.monotonic()
                client.get(self._url)
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - begun)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("coded", [True, False], ids=["gzip", "plain"])
def test_millions_of_values_that_fit_nothing(
    server: Server, client: httpx.Client, name: str, coded: bool
) -> None:
    path, body = BODIES[name]
    content = gzip.compress(body(), 6) if coded else body()
    before = largest_memory(server)
    with Meanwhile(server) as meanwhile:
        answer = client.post(path, content=content, headers=HEADERS if coded else JSON)
    statuses = {413, 400} if path.startswith("/v") else {413, 422}
    assert answer.status_code in statuses, answer.text[:200]
    assert len(answer.content) < 1000
    assert meanwhile.longest_seconds < LATEST
    assert largest_memory(server) - before < GROWTH * SIZE


def largest_memory(server: Server) -> int:
    """Bytes of the largest process of the service: the children that parse come on top of it."""
    process = psutil.Process(server.pid)
    return max(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def test_large_bodies_have_the_same_answers(client: httpx.Client) -> None:
    rows = np.random.default_rng(0).normal(size=(4096, 2)).tolist()
    padding = " " * 300_000
    small = {"model": "diabetes", "rows": rows}
    answer = client.post("/regress", json=small).json()
    # A list of as many lists as are parsed in a child process, of images that are all the same.
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8)).tolist()
    count = 2 * MAX_VALUES // 64
    many = client.post("/classify_image", json={"model": "mnist", "pixels": [pixels] * count, "top_k": 2})
    one = client.post("/classify_image", json={"model": "mnist", "pixels": pixels, "top_k": 2})
    assert many.json()["predictions"] == one.json()["predictions"] * count
    assert many.json()["lineage"] == one.json()["lineage"]
    assert client.post("/regress", content=padding + json.dumps(small), headers=JSON).json() == answer


def test_tensors_of_many_numbers(client: httpx.Client) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4096, 8, 8, 1))
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
    answers = [
        client.post("/v2/models/mnist/infer", json={"inputs": [{**tensor, "data": data}]}).json()
        for data in (pixels.tolist(), pixels.ravel().tolist())
    ]
    assert answers[0] == answers[1]
    assert answers[0]["outputs"][0]["shape"][0] == len(pixels)


@pytest.mark.parametrize("model", ["diabetes", "nobody"])
def test_a_large_body_for_another_model(client: httpx.Client, model: str) -> None:
    body = {"model": model, "pixels": [[0] * 8] * 8 * 4096}
    answer = client.post("/classify_image", json=body)
    refused(answer, 404 if model == "nobody" else 422)
    assert answer.json()["code"] == ("not_found" if model == "nobody" else "wrong_endpoint")


def test_fields_of_forms_are_counted_too(client: httpx.Client) -> None:
    pixels = "[" + "[0]," * MAX_VALUES + "[0]]"
    answer = client.post("/classify_image", data={"model": "mnist", "pixels": pixels}, files={"x": b""})
    refused(answer, 413)


def test_sizes() -> None:
    text = '[{"a": [1, 23, "ä,"]}]' + " " * SMALL_TEXT
    size = json_size(text.encode())
    assert (size.commas, size.lists, size.objects, size.digits, size.ascii) == (3, 2, 1, 3, False)
    assert size.values == 7
    assert json_size(b"[]" * (SMALL_TEXT // 2)) is SMALL
