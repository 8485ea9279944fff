"""What the Open Inference Protocol's endpoints refuse, over plain HTTP; Triton's own tests are the bar."""

import gzip
import json
import math
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from tiny_zoo import SIDE

pytestmark = pytest.mark.usefixtures("unharmed")

ROWS = "/v2/models/perceptron-iris/infer"
IMAGES = "/v2/models/gan-mnist/infer"
SERIES = "/v2/models/lstm-sales/infer"
DIGITS = "/v2/models/lenet5-mnist/infer"
TEXTS = "/v2/models/rnn-letters/infer"
LIMIT = 33_554_432
LATENT = {"name": "latent", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}


def refused(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    for word in words:
        assert word in body["error"]
    for inside in ("Traceback", 'File "', ".py", "site-packages", "/tmp", "onnxruntime"):
        assert inside not in body["error"]


def rows(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4], **changes}
    return {key: value for key, value in tensor.items() if value is not None}


def klass(**changes: Any) -> dict[str, Any]:
    return {"name": "class", "datatype": "INT64", "shape": [1], "data": [3], **changes}


def post(client: httpx.Client, path: str, *inputs: Any, **fields: Any) -> httpx.Response:
    return client.post(path, json={"inputs": list(inputs), **fields})


def test_json_with_curl(client: httpx.Client) -> None:
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]], [[1.0, 2], [3, 4.0]]):
        answer = post(client, ROWS, rows(data=data), id="a", parameters=None, outputs=None)
        assert answer.status_code == 200
        body = answer.json()
        assert body.keys() == {"model_name", "model_version", "parameters", "outputs", "id"}
        (output,) = body["outputs"]
        assert output["shape"] == [2, 3]
        assert len(output["data"]) == 6
    assert "id" not in post(client, ROWS, rows()).json()


@pytest.mark.parametrize(
    ("path", "inputs", "words"),
    [
        (ROWS, [], ["features"]),
        (ROWS, [rows(), rows()], ["twice"]),
        (ROWS, [rows(), rows(name="mass")], ["no input 'mass'", "features"]),
        (ROWS, [rows(name="x" * 100_000)], ["..."]),
        (ROWS, [rows(name=None)], ["name"]),
        (ROWS, [rows(name=5)], ["name", "string"]),
        (ROWS, [3], ["objects"]),
        (ROWS, [rows(datatype="FP64")], ["FP64", "FP32"]),
        (ROWS, [rows(datatype="fp32")], ["FP32"]),
        (ROWS, [rows(datatype=None)], ["datatype"]),
        (ROWS, [rows(shape=None)], ["shape"]),
        (ROWS, [rows(shape="[2, 2]")], ["shape"]),
        (ROWS, [rows(shape=[-2, 2])], ["batch"]),
        (ROWS, [rows(shape=[2, -2])], ["[-1, 2]"]),
        (ROWS, [rows(shape=[2.0, 2])], ["integers"]),
        (ROWS, [rows(shape=[True, 2])], ["integers"]),
        (ROWS, [rows(shape=[2])], ["[-1, 2]"]),
        (ROWS, [rows(shape=[])], ["[-1, 2]"]),
        (ROWS, [rows(shape=[2, 2, 1])], ["[-1, 2]"]),
        (ROWS, [rows(shape=[1, 4])], ["[-1, 2]"]),
        (ROWS, [rows(shape=[3, 2])], ["4 values", "6"]),
        (ROWS, [rows(shape=[0, 2], data=[])], ["batch"]),
        (ROWS, [rows(shape=[4097, 2], data=[0] * 8194)], ["4096"]),
        (ROWS, [rows(shape=[2**62, 2])], ["4096"]),
        (ROWS, [rows(shape=[2**64 - 1, 2])], ["4096"]),
        (ROWS, [rows(data=[1, 2, 3])], ["3 values"]),
        (ROWS, [rows(data=[[1, 2], [3]])], ["nested"]),
        (ROWS, [rows(data=[[1, 2, 3], [4]])], ["nested"]),
        (ROWS, [rows(data=[[1, 2, 3, 4]])], ["nested"]),
        (ROWS, [rows(data=[[1, 2], 3, 4])], ["nested"]),
        (ROWS, [rows(data=[[[1, 2]], [[3, 4]]])], ["data"]),
        (ROWS, [rows(data={"0": 1})], ["list"]),
        (ROWS, [rows(data=[1, 2, 3, True])], ["int"]),
        (ROWS, [rows(data=[1, 2, 3, "4"])], ["float"]),
        (ROWS, [rows(data=[1, 2, 3, None])], ["float"]),
        (ROWS, [rows(data=[1, 2, 3, 1e39])], ["range"]),
        (ROWS, [rows(data=None)], ["data", "binary_data_size"]),
        (ROWS, [rows(data=None, parameters={"binary_data_size": 16})], ["0 bytes"]),
        (ROWS, [rows(parameters={"binary_data_size": 16})], ["either"]),
        (ROWS, [rows(parameters=[])], ["object"]),
        (IMAGES, [LATENT], ["class"]),
        (IMAGES, [LATENT, klass(data=[10])], ["0 to 9"]),
        (IMAGES, [LATENT, klass(data=[-1])], ["0 to 9"]),
        (IMAGES, [LATENT, klass(data=[1.0])], ["int"]),
        (IMAGES, [LATENT, klass(data=[2**63])], ["integers"]),
        (IMAGES, [LATENT, klass(shape=[2], data=[1, 1])], ["batch size"]),
        (IMAGES, [LATENT, klass(shape=[257], data=[1] * 257)], ["256"]),
        (
            DIGITS,
            [{**rows(), "name": "image", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 1]}],
            ["4 values"],
        ),
        (SERIES, [{**rows(), "name": "history", "shape": [1, 0, 1], "data": []}], ["axis 1"]),
        (SERIES, [{**rows(), "name": "history", "shape": [1, 65_537, 1]}], ["axis 1", "65536"]),
        (SERIES, [{**rows(), "name": "history", "shape": [1, -4, 1]}], ["axis 1"]),
        (TEXTS, [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [1]}], ["str"]),
        (TEXTS, [{"name": "text_input", "datatype": "BYTES", "shape": [0], "data": []}], ["batch"]),
        (TEXTS, [{"name": "text_input", "datatype": "BYTES", "shape": [17], "data": ["a"] * 17}], ["16"]),
        (TEXTS, [{"name": "tokens", "datatype": "INT64", "shape": [1, 1], "data": [1]}], ["text_input"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_inputs_against_the_model(client: httpx.Client, path: str, inputs: list, words: list[str]) -> None:
    refused(post(client, path, *inputs), 400, *words)


@pytest.mark.parametrize("value", [-1, 256, 2**64 - 1])
def test_integers_out_of_their_type(client: httpx.Client, value: int) -> None:
    image = {"name": "image", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 1], "data": [0] * 63 + [value]}
    refused(post(client, DIGITS, image), 400, "0 to 255")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": 5}, ["id", "string"]),
        ({"parameters": 5}, ["parameters"]),
        ({"parameters": {"timeout": -1}}, ["timeout"]),
        ({"parameters": {"timeout": "1"}}, ["timeout"]),
        ({"parameters": {"binary_data_output": 1}}, ["binary_data_output"]),
        ({"outputs": {}}, ["outputs"]),
        ({"outputs": ["probabilities"]}, ["objects"]),
        ({"outputs": [{"name": "nothing"}]}, ["no output 'nothing'", "probabilities"]),
        ({"outputs": [{"name": "probabilities"}] * 2}, ["twice"]),
        ({"outputs": [{"name": "probabilities", "parameters": {"binary_data": 1}}]}, ["binary_data"]),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]}, ["classification"]),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": True}}]}, ["integer"]),
    ],
    ids=str,
)
def test_what_else_a_request_says(client: httpx.Client, fields: dict, words: list[str]) -> None:
    refused(post(client, ROWS, rows(), **fields), 400, *words)


@pytest.mark.parametrize(
    ("path", "inputs", "output"),
    [("/v2/models/diabetes/infer", [rows()], "value"), (IMAGES, [LATENT, klass()], "image")],
)
def test_classes_of_what_is_no_scores(client: httpx.Client, path: str, inputs: list, output: str) -> None:
    outputs = [{"name": output, "parameters": {"classification": 1}}]
    refused(post(client, path, *inputs, outputs=outputs), 400, "classification")
    assert post(client, path, *inputs, outputs=[{"name": output}]).status_code == 200


def test_more_classes_than_there_are(client: httpx.Client) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2**40}}]
    (output,) = post(client, ROWS, rows(), outputs=outputs).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 3])
    assert {text.split(":")[2] for text in output["data"]} == {"setosa", "versicolor", "virginica"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\x80\x04K\x01.",
        b'{"inputs": [\xff]}',
        json.dumps({"inputs": [rows(data=[1, 2, 3, math.nan])]}).encode(),
        json.dumps({"inputs": [rows(data=[1, 2, 3, -math.inf])]}).encode(),
        json.dumps({"inputs": [rows()]}).replace("4]", "1e400]").encode(),
        json.dumps({"inputs": [rows()]}).replace("[2, 2]", f"[{'9' * 5000}, 2]").encode(),
        b'{"inputs": ' + b"[" * 250_000 + b"]" * 250_000 + b"}",
        b'{"x":' * 250_000,
        json.dumps({"inputs": [rows()]}).replace("[1, 2, 3, 4]", "[" * 900 + "]" * 900).encode(),
    ],
    ids=lambda body: body[:40].decode(errors="replace"),
)
def test_malformed_json(client: httpx.Client, body: bytes) -> None:
    for path in (ROWS, "/v2/models/rnn-letters/generate", "/v2/models/rnn-letters/generate_stream"):
        refused(client.post(path, content=body, headers={"Content-Type": "application/json"}), 400)


FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def send(client: httpx.Client, tensors: list[dict], data: bytes, length: str | None = None) -> httpx.Response:
    head = json.dumps({"inputs": tensors}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)) if length is None else length,
    }
    return client.post(ROWS, content=head + data, headers=headers)


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    return rows(data=None, parameters={"binary_data_size": size}, **changes)


def test_binary_wherever_it_begins_in_memory(client: httpx.Client) -> None:
    answers = [send(client, [{**binary(16), "padding": " " * length}], FLOATS) for length in range(4)]
    assert all(answer.status_code == 200 for answer in answers)
    assert all(answer.json() == answers[0].json() for answer in answers)


@pytest.mark.parametrize(
    ("tensors", "data", "words"),
    [
        ([binary(16)], FLOATS[:-1], ["16", "15"]),
        ([binary(15)], FLOATS[:-1], ["15", "16"]),
        ([binary(0)], b"", ["0", "16"]),
        ([binary(-16)], FLOATS, ["binary_data_size"]),
        ([binary("16")], FLOATS, ["binary_data_size"]),
        ([binary(16.0)], FLOATS, ["binary_data_size"]),
        ([binary(True)], FLOATS, ["binary_data_size"]),
        ([binary(2**63)], FLOATS, ["binary_data_size"]),
        ([binary(16)], FLOATS + b"x", ["1 bytes"]),
        ([rows()], FLOATS, ["16 bytes"]),
        ([rows(parameters={"binary_data_size": 16})], FLOATS, ["either"]),
        ([binary(16, shape=[3, 2])], FLOATS, ["16", "24"]),
        ([binary(16)], struct.pack("<4f", 1, 2, 3, math.nan), ["finite"]),
        ([binary(16)], struct.pack("<4f", 1, -math.inf, 3, 4), ["finite"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_binary_framing(client: httpx.Client, tensors: list[dict], data: bytes, words: list[str]) -> None:
    refused(send(client, tensors, data), 400, *words)


@pytest.mark.parametrize(
    "length", ["99999999999", "9" * 5000, "-1", "1.5", "x", "0x10", "+5", "0", "5", "100000"]
)
def test_a_length_of_the_json_that_cannot_be(client: httpx.Client, length: str) -> None:
    refused(send(client, [binary(16)], FLOATS, length), 400)


@pytest.mark.parametrize(
    "data", [b"\5\0\0\0abc", b"\3\0\0", b"\xff\xff\xff\xffabc", b"\2\0\0\0\xff\xfe", b"\0\0\0\0\0\0\0\0", b""]
)
def test_binary_strings(client: httpx.Client, data: bytes) -> None:
    tensor = {
        "name": "text_input",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    refused(client.post(TEXTS, content=head + data, headers=headers), 400)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"max_tokens": 1.5}, ["max_tokens"]),
        ({"temperature": "hot"}, ["temperature"]),
        ({"max_token": 5, "prompt": "a"}, ["max_token", "prompt", "max_tokens"]),
        ({"beam_size": 5}, ["beam_size", "temperature"]),
    ],
    ids=str,
)
def test_sampling_parameters(client: httpx.Client, parameters: dict, words: list[str]) -> None:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    refused(post(client, TEXTS, tensor, parameters=parameters), 400, *words)
    body = {"text_input": "a", "parameters": parameters}
    for path in ("generate", "generate_stream"):
        refused(client.post(f"/v2/models/rnn-letters/{path}", json=body), 400, *words)


@pytest.mark.parametrize(
    ("media_type", "coding"),
    [
        ("text/plain", None),
        ("application/xml", None),
        ("application/vnd.bentoml+pickle", None),
        ("application/json", "br"),
    ],
)
def test_media_types_and_codings(client: httpx.Client, media_type: str, coding: str | None) -> None:
    headers = {"Content-Type": media_type, **({"Content-Encoding": coding} if coding else {})}
    for path in (ROWS, "/v2/models/rnn-letters/generate"):
        refused(client.post(path, content=b"{}", headers=headers), 415)


def test_bodies_over_the_limit(client: httpx.Client) -> None:
    for headers, body in (
        ({}, b" " * (LIMIT + 1)),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * (LIMIT + 1))),
        ({"Content-Encoding": "deflate"}, zlib.compress(b" " * (LIMIT + 1))),
    ):
        refused(client.post(ROWS, content=body, headers=headers), 413)
    refused(client.post(ROWS, content=b"{}", headers={"Content-Encoding": "gzip"}), 400)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/models/nothing", []),
        ("/v2/models/nothing/versions/1", []),
        ("/v2/models/lenet5-mnist/versions/2", ["lenet5-mnist"]),
        ("/v2/models/lenet5-mnist/versions/-1", []),
        ("/v2/models/lenet5-mnist/versions/1.0", []),
        ("/v2/models/lenet5-mnist/versions/challenger", []),
        ("/v2/models/lenet5-mnist/versions/" + "9" * 5000, []),
        ("/v2/models/linear_regression-diabetes/versions/2", ["mse 9000 is not below 3500"]),
        ("/v2/models/diabetes/versions/2", ["mse 9000 is not below 3500"]),
        ("/v2/models/" + "x" * 10_000, []),
        ("/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", []),
        ("/v2/models/%2e%2e", []),
        ("/v2/models/a%00b", []),
        ("/v2/models/", []),
    ],
    ids=lambda value: str(value)[:60],
)
def test_unknown_models_and_versions(client: httpx.Client, path: str, words: list[str]) -> None:
    refused(client.get(path), 404, *words)
    refused(client.get(f"{path}/ready"), 404, *words)
    refused(client.get(f"{path}/config"), 404, *words)
    refused(client.post(f"{path}/infer", json={"inputs": [rows()]}), 404, *words)


@pytest.mark.parametrize(
    "path", ["/v2/nothing", "/v2/models", "/v2/models/lenet5-mnist/nothing", "/v2//models/x"]
)
def test_unknown_paths(client: httpx.Client, path: str) -> None:
    refused(client.get(path), 404)
    refused(client.post(path, content=b"{}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2", "GET, HEAD"),
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("GET", "/v2/repository/index", "POST"),
        ("PUT", "/v2/logging", "GET, HEAD, POST"),
        ("GET", ROWS, "POST"),
        ("GET", "/v2/models/rnn-letters/generate", "POST"),
        ("DELETE", "/v2/models/lenet5-mnist/versions/1", "GET, HEAD"),
    ],
)
def test_wrong_methods(client: httpx.Client, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    refused(response, 405)
    assert response.headers["allow"] == allow


def test_texts_of_models_that_write_none(client: httpx.Client) -> None:
    for path in ("generate", "generate_stream"):
        refused(client.post(f"/v2/models/mnist/{path}", json={"text_input": "a"}), 400, "infer")


def test_a_long_series_is_computed(client: httpx.Client) -> None:
    """Longer than the window that the model was trained with, and than what the event loop computes."""
    history = np.arange(50_000, dtype=np.float32)
    tensor = {"name": "history", "datatype": "FP32", "shape": [1, 50_000, 1], "data": history.tolist()}
    (output,) = post(client, SERIES, tensor).json()["outputs"]
    assert output["data"] == [49_999, 49_998]
