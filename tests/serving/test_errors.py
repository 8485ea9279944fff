"""Every status of the interface's table, in the shape of the zoo's own errors."""

import json

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("unharmed")

JSON = {"Content-Type": "application/json"}
ROWS = b'{"model": "diabetes", "rows": [[1, 2]]}'


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


def test_deadlines(client: httpx.Client) -> None:
    refused(post(client, ROWS, X_Request_Timeout="0.000001"), 504)
    refused(post(client, ROWS, X_Request_Timeout="0"), 504)
    assert post(client, ROWS, X_Request_Timeout="5").status_code == 200
    for nonsense in ("soon", "-1", "nan", "inf", ""):
        refused(post(client, ROWS, X_Request_Timeout=nonsense), 400, "X-Request-Timeout")


def test_a_wrong_request_leaves_the_connection_usable(client: httpx.Client) -> None:
    for _ in range(3):
        refused(post(client, b"{"), 400)
        assert json.loads(post(client, ROWS).content)["predictions"]
