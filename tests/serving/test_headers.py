"""Headers that are lists, on one line or several, those that have one value, and marks in front of JSON."""

import gzip
import json
import struct
from codecs import BOM_UTF8

import httpx
import pytest
from server import running
from test_bad_input import TENSORS
from test_errors import ROWS, post, refused
from tiny_zoo import TinyRegistry

Lines = list[tuple[str, str]]
JSON = ("Content-Type", "application/json")
LARGE = json.dumps({"model": "diabetes", "rows": [[1, 2]] * 100}).encode()


def asked(client: httpx.Client, path: str, body: bytes, *lines: tuple[str, str]) -> httpx.Response:
    """The answer to a request with these header lines and none of the client's own."""
    request = httpx.Request("POST", f"{client.base_url}{path}", content=body)
    request.headers = httpx.Headers([("Host", "localhost"), ("Content-Length", str(len(body))), *lines])
    return client.send(request)


@pytest.mark.parametrize(
    ("lines", "coding"),
    [
        ([("Accept-Encoding", "gzip")], "gzip"),
        ([("Accept-Encoding", "gzip"), ("Accept-Encoding", "br")], "gzip"),
        ([("Accept-Encoding", "br"), ("accept-encoding", "gzip;q=0, deflate")], "deflate"),
        ([("Accept-Encoding", "gzip"), ("Accept-Encoding", "")], "gzip"),
        ([("Accept-Encoding", ""), ("Accept-Encoding", "br")], None),
    ],
)
def test_accepted_codings(client: httpx.Client, lines: Lines, coding: str | None) -> None:
    response = asked(client, "/regress", LARGE, JSON, *lines)
    assert response.status_code == 200
    assert response.headers.get("content-encoding") == coding


@pytest.mark.parametrize(
    ("lines", "media_type"),
    [
        ([("Accept", "image/png"), ("Accept", "application/json;q=0.5")], "image/png"),
        ([("Accept", "application/json;q=0.5"), ("Accept", "image/png")], "image/png"),
        ([("Accept", "image/png;q=0.1"), ("Accept", "application/json"), ("Accept", "x/y")], JSON[1]),
    ],
)
def test_accepted_media_types(client: httpx.Client, lines: Lines, media_type: str) -> None:
    body = b'{"model": "gan-mnist", "count": 1, "seed": 0}'
    assert asked(client, "/generate_images", body, JSON, *lines).headers["content-type"] == media_type


@pytest.mark.parametrize(
    "values",
    [
        ["gzip"],
        ["gzip, identity"],
        ["identity,GZip"],
        ["gzip", "identity"],
        ["identity", "gzip"],
        [", gzip ,"],
        ["", "gzip"],
    ],
)
def test_content_codings_with_identity(client: httpx.Client, values: list[str]) -> None:
    lines = [("Content-Encoding", value) for value in values]
    assert asked(client, "/regress", gzip.compress(ROWS), JSON, *lines).status_code == 200


@pytest.mark.parametrize("values", [["identity"], ["identity, identity"], [""], ["identity", ""]])
def test_content_codings_that_are_none(client: httpx.Client, values: list[str]) -> None:
    lines = [("Content-Encoding", value) for value in values]
    assert asked(client, "/regress", ROWS, JSON, *lines).status_code == 200


@pytest.mark.parametrize("values", [["gzip, gzip"], ["gzip", "deflate"], ["gzip", "br"], ["br", "identity"]])
def test_other_content_codings(client: httpx.Client, values: list[str]) -> None:
    lines = [("Content-Encoding", value) for value in values]
    response = asked(client, "/regress", gzip.compress(gzip.compress(ROWS)), JSON, *lines)
    refused(response, 415, "gzip")
    assert response.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "lines",
    [
        [JSON, ("Content-Type", "text/plain")],
        [("content-type", "text/plain"), JSON],
        [JSON, JSON],
        [JSON, ("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
        [("Authorization", "Bearer a"), JSON, ("authorization", "Bearer a")],
    ],
)
def test_two_values_where_there_can_be_one(client: httpx.Client, lines: Lines) -> None:
    problem = refused(asked(client, "/regress", ROWS, *lines), 400, "on two lines")
    assert problem["code"] == "bad_header"
    for path in ("/v2/models/diabetes/infer", "/v1/completions"):
        response = asked(client, path, TENSORS, *lines)
        assert response.status_code == 400
        assert "on two lines" in response.text


def test_numbers_on_two_lines(client: httpx.Client) -> None:
    twice = [("X-Request-Timeout", "5"), ("X-Request-Timeout", "5")]
    refused(asked(client, "/regress", ROWS, JSON, *twice), 400, "X-Request-Timeout")
    ids = [("X-Request-Id", "a"), ("X-Request-Id", "b")]
    assert asked(client, "/regress", ROWS, JSON, *ids).headers["x-request-id"] not in ("a", "b")


@pytest.mark.slow
def test_two_keys(registry: TinyRegistry, tmp_path_factory: pytest.TempPathFactory) -> None:
    """None of two is believed, whichever is right."""
    log = tmp_path_factory.mktemp("keys") / "log"
    right, wrong = ("Authorization", "Bearer right-right-right"), ("Authorization", "Bearer wrong")
    service = running(log, ZOO_HOME=str(registry.home), ZOO_API_KEYS="right-right-right")
    with service as server, httpx.Client(base_url=server.url) as client:
        assert asked(client, "/regress", ROWS, JSON, right).status_code == 200
        for lines in ([right, wrong], [wrong, right], [right, right]):
            refused(asked(client, "/regress", ROWS, JSON, *lines), 400, "Authorization")


COMPLETION = {"model": "rnn-letters", "prompt": "a", "max_tokens": 2}
BODIES = {
    "/regress": ROWS,
    "/generate_text": json.dumps(COMPLETION).encode(),
    "/v2/models/diabetes/infer": TENSORS,
    "/v2/models/rnn-letters/generate": b'{"text_input": "a", "max_tokens": 2}',
    "/v2/repository/index": b'{"ready": true}',
    "/v1/completions": json.dumps(COMPLETION).encode(),
}


@pytest.mark.parametrize("path", BODIES)
def test_a_byte_order_mark_is_skipped(client: httpx.Client, path: str) -> None:
    assert post(client, BOM_UTF8 + BODIES[path], path).status_code == 200
    for marks in (BOM_UTF8 * 2, BOM_UTF8[:2]):
        assert post(client, marks + BODIES[path], path).status_code == 400
    wrong = post(client, BOM_UTF8 + BODIES[path][:-1], path)
    assert wrong.status_code == 400


def test_a_byte_order_mark_in_front_of_the_fallback(client: httpx.Client) -> None:
    body = BOM_UTF8 + b'{"model": "diabetes", "rows": [[1, 2]], "more": 1}'
    refused(post(client, body), 422, "more")


def test_a_byte_order_mark_in_front_of_tensors(client: httpx.Client) -> None:
    tensor = b'{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 2], "parameters": '
    text = BOM_UTF8 + tensor + b'{"binary_data_size": 8}}]}'
    response = client.post(
        "/v2/models/diabetes/infer",
        content=text + struct.pack("<2f", 1, 2),
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    assert response.json()["outputs"][0]["data"] == [6]
