"""Every status of the interface's table, in the shape of the zoo's own errors."""

import base64
import gzip
import io
import json
import socket
import struct
import time
import zlib

import httpx
import pytest
from PIL import Image
from server import Server

JSON = {"Content-Type": "application/json"}
ROWS = b'{"model": "diabetes", "rows": [[1, 2]]}'
LIMIT = 33_554_432


def refused(response: httpx.Response, status: int, *words: str) -> dict:
    """Checks an error's status, shape and words, and that it tells nothing of the inside."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error", "code", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    for word in words:
        assert word in body["error"]
    for inside in ("Traceback", 'File "', ".py", "site-packages", "/tmp"):
        assert inside not in body["error"]
    return body


def post(client: httpx.Client, body: bytes | str, path: str = "/regress", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers={**JSON, **named})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "diabetes", "rows": [[1, 2]]} {}',
        b'{"model": "diabetes\xff", "rows": [[1, 2]]}',
        b"\x80\x04K\x01.",
        b'{"model": "diabetes", "rows": ' + b"[" * 250_000 + b"]" * 250_000 + b"}",
        b'{"x":' * 250_000,
    ],
)
def test_malformed_json(client: httpx.Client, body: bytes) -> None:
    refused(post(client, body), 400)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"model": "diabetes", "rows": [[NaN, 1]]}', ["rows[0][0]", "finite"]),
        ('{"model": "diabetes", "rows": [[1, -Infinity]]}', ["rows[0][1]", "finite"]),
        ('{"model": "diabetes", "rows": [[1e400, 1]]}', ["rows[0][0]", "finite"]),
        ('{"model": "diabetes", "rows": [[%s, 1]]}' % ("9" * 5000), []),
        ('{"model": "diabetes", "rows": [[1e39, 1]]}', ["rows[0]", "age"]),
        ('{"model": "diabetes", "rows": [[1, 2], [3]]}', ["rows[1] has 1 values; expected 2", "mass"]),
        ('{"model": "diabetes", "rows": [[1, 2], {"age": 1}]}', ["rows[1] lacks ['mass']"]),
        ('{"model": "diabetes", "rows": [[1, "x"]]}', ["rows[0][1]", "number"]),
        ('{"model": "diabetes", "rows": []}', ["rows"]),
        ('{"model": "diabetes"}', ["rows"]),
        ('{"model": "diabetes", "rows": [[1, 2]], "row": 1, "Rows": 2}', ["row", "Rows"]),
        ('{"rows": [[1, 2]]}', ["model"]),
        ('{"model": "", "rows": [[1, 2]]}', ["model"]),
        ('{"model": null, "rows": [[1, 2]]}', ["model"]),
        ("[1, 2]", []),
        ("null", []),
    ],
)
def test_against_the_schema(client: httpx.Client, body: str, words: list[str]) -> None:
    refused(post(client, body), 422, *words)


def test_a_union_is_explained_by_what_is_wrong_inside(client: httpx.Client) -> None:
    body = refused(post(client, '{"model": "diabetes", "rows": [[1, "x"]]}'), 422)
    assert body["error"] == "rows[0][1]: Input should be a valid number"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/regress", {"model": "iris", "rows": [[1, 2]]}),
        ("/classify", {"model": "mnist", "image": "aaaa"}),
        ("/classify_image", {"model": "iris", "rows": [[1, 2]]}),
        ("/forecast", {"model": "iris", "history": [1, 2]}),
    ],
)
def test_another_kinds_endpoint_names_the_right_one(client: httpx.Client, path: str, body: dict) -> None:
    right = {"iris": "/classify", "mnist": "/classify_image"}[body["model"]]
    assert refused(client.post(path, json=body), 422, right)["code"] == "wrong_endpoint"


@pytest.mark.parametrize("name", ["nope", "x" * 129, "x" * 100_000, "../../etc/passwd", "a\0b", "champion"])
def test_unknown_model(client: httpx.Client, name: str) -> None:
    body = refused(client.post("/regress", json={"model": name, "rows": [[1, 2]]}), 404)
    assert "etc" not in body["error"]
    refused(client.post("/classify_image", json={"model": name, "rows": 1}), 404)


@pytest.mark.parametrize("path", ["/nowhere", "/regress/", "/v2/models/../../etc", "/models.json"])
def test_unknown_route(client: httpx.Client, path: str) -> None:
    refused(client.get(path), 404)
    refused(client.post(path, content=b"x"), 404)


def test_wrong_method_says_which_is_right(client: httpx.Client) -> None:
    for method, path, allow in (
        ("GET", "/regress", "POST"),
        ("DELETE", "/models", "GET, HEAD"),
        ("POST", "/models/mnist", "GET, HEAD"),
        ("PUT", "/classify_image", "POST"),
        ("OPTIONS", "/readyz", "GET, HEAD"),
    ):
        response = client.request(method, path)
        refused(response, 405)
        assert response.headers["allow"] == allow


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "application/vnd.bentoml+pickle",
        "multipart/form-data; boundary=x",
    ],
)
def test_unknown_media_type(client: httpx.Client, media_type: str) -> None:
    refused(post(client, ROWS, **{"Content_Type": media_type}), 415, "application/json")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_unknown_content_coding(client: httpx.Client, coding: str) -> None:
    refused(post(client, ROWS, Content_Encoding=coding), 415, "gzip")


def test_a_pickle_in_a_form(client: httpx.Client) -> None:
    files = {"image": ("x.pkl", b"\x80\x04K\x01.", "application/vnd.bentoml+pickle")}
    refused(client.post("/classify_image", data={"model": "mnist"}, files=files), 415)


def test_malformed_forms(client: httpx.Client) -> None:
    for media_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        refused(post(client, b"--y\r\nrubbish", "/classify_image", Content_Type=media_type), 400)
    refused(client.post("/classify_image", files={"image": b"x"}), 422, "model")
    twice = [("model", (None, "mnist")), ("model", (None, "mnist")), ("image", b"x")]
    refused(client.post("/classify_image", files=twice), 422, "model")
    unknown = [("model", (None, "mnist")), ("colour", (None, "red"))]
    refused(client.post("/classify_image", files=unknown), 422, "colour")


def test_bodies_over_the_limit(client: httpx.Client) -> None:
    refused(post(client, b" " * (LIMIT + 1)), 413)
    refused(post(client, gzip.compress(b" " * (LIMIT + 1), 1), Content_Encoding="gzip"), 413)
    refused(post(client, zlib.compress(b"\0" * 200_000_000, 1), Content_Encoding="deflate"), 413)
    chunks = (b" " * 1_000_000 for _ in range(40))
    refused(client.post("/regress", content=chunks, headers=JSON), 413)


def test_a_body_of_exactly_the_limit_is_read(client: httpx.Client) -> None:
    assert post(client, ROWS + b" " * (LIMIT - len(ROWS))).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_rubbish(client: httpx.Client, coding: str) -> None:
    whole = gzip.compress(ROWS) if coding == "gzip" else zlib.compress(ROWS)
    for body in (whole[: len(whole) // 2], b"rubbish", whole[:-1], whole + b"more"):
        refused(post(client, body, Content_Encoding=coding), 400)


def raw_answer(server: Server, *pieces: bytes, pause: float = 0.0) -> bytes:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        return connection.recv(65536)


def test_a_content_length_over_the_limit_is_refused_unread(server: Server) -> None:
    head = b"POST /regress HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    assert b" 413 " in raw_answer(server, head).partition(b"\r\n")[0]


def test_a_body_in_slow_chunks(server: Server) -> None:
    head = (
        b"POST /regress HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    third = len(ROWS) // 3
    pieces = ROWS[:third], ROWS[third : 2 * third], ROWS[2 * third :]
    assert b" 200 " in raw_answer(server, head % len(ROWS), *pieces, pause=0.1).partition(b"\r\n")[0]


def test_a_body_that_does_not_come_is_past_the_deadline(server: Server) -> None:
    head = b"POST /regress HTTP/1.1\r\nHost: x\r\nX-Request-Timeout: 0.2\r\nContent-Length: 100\r\n\r\n{"
    assert b" 504 " in raw_answer(server, head).partition(b"\r\n")[0]


def test_deadlines(client: httpx.Client) -> None:
    refused(post(client, ROWS, X_Request_Timeout="0.000001"), 504)
    refused(post(client, ROWS, X_Request_Timeout="0"), 504)
    assert post(client, ROWS, X_Request_Timeout="5").status_code == 200
    for nonsense in ("soon", "-1", "nan", "inf", ""):
        refused(post(client, ROWS, X_Request_Timeout=nonsense), 400, "X-Request-Timeout")


def test_images_that_are_none_and_images_that_are_too_large(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    png = buffer.getvalue()
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    bomb = png[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + png[33:]
    for data, status, word in (
        (b"", 422, "image"),
        (b"GIF89a", 422, "PNG or JPEG"),
        (png[:40], 422, "PNG or JPEG"),
        (bomb, 413, "30000 x 30000"),
    ):
        text = base64.b64encode(data).decode()
        refused(client.post("/classify_image", json={"model": "mnist", "image": text}), status, word)
        files = {"image": ("x.png", data)}
        refused(client.post("/classify_image", data={"model": "mnist"}, files=files), status, word)
    refused(client.post("/classify_image", json={"model": "mnist", "image": "%%%"}), 422, "base64")
    refused(client.post("/classify_image", json={"model": "mnist"}), 422, "image", "pixels")
    refused(client.post("/classify_image", json={"model": "mnist", "pixels": [[1]]}), 422, "pixels")
    refused(
        client.post("/classify_image", json={"model": "mnist", "image": png.hex(), "top_k": 0}), 422, "top_k"
    )


def test_a_wrong_request_leaves_the_connection_usable(client: httpx.Client) -> None:
    for _ in range(3):
        refused(post(client, b"{"), 400)
        assert json.loads(post(client, ROWS).content)["predictions"]
