"""`ZOO_ORIGINS`: which pages of other sites may use the service, and what browsers are told."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import Server, running
from test_application import no_page, request
from test_errors import ROWS
from tiny_zoo import write_regression, write_writer

from serving.application import Application
from serving.settings import Settings

APP, OTHER = "https://app.example", "http://localhost:7860"
KEY = {"Authorization": "Bearer a-key-of-the-tests"}
PREFLIGHT = {"Origin": APP, "Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("shared")
    write_regression(folder / "bundles" / "regression")
    write_writer(folder / "bundles" / "writer")
    variables = {"ZOO_BUNDLES": str(folder / "bundles"), "ZOO_ORIGINS": f"{APP}, {OTHER}"}
    with running(folder / "log", **variables, ZOO_API_KEYS=KEY["Authorization"].split()[1]) as server:
        yield server


def allowed(response: httpx.Response, origin: str = APP) -> None:
    assert response.headers["access-control-allow-origin"] == origin
    assert "origin" in response.headers["vary"].lower()
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) >= {"X-Request-Id", "X-Zoo-Model", "X-Zoo-Version", "X-Zoo-Run-Id", "X-Zoo-Digest"}
    assert "access-control-allow-credentials" not in response.headers


def denied(response: httpx.Response) -> None:
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", [APP, OTHER])
def test_a_listed_origin(shared: Server, origin: str) -> None:
    headers = {**KEY, "Origin": origin, "Sec-Fetch-Site": "cross-site"}
    response = httpx.post(f"{shared.url}/regress", content=ROWS, headers=headers)
    assert response.status_code == 200
    allowed(response, origin)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/models", 200),
        ("GET", "/", 200),
        ("GET", "/docs.json", 200),
        ("GET", "/v2/models/diabetes", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/nothing", 404),
        ("GET", "/v2%2Fmodels", 404),
        ("POST", "/regress", 400),
        ("POST", "/models", 405),
        ("POST", "/v2/models/nothing/infer", 415),
    ],
)
def test_every_answer_says_so(shared: Server, method: str, path: str, status: int) -> None:
    response = httpx.request(method, shared.url + path, headers={**KEY, "Origin": APP})
    assert response.status_code == status
    allowed(response)


def test_refusals_too(shared: Server) -> None:
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 403),
        ({**KEY, "Host": "evil"}, 421),
    ):
        response = httpx.get(f"{shared.url}/models", headers={"Origin": APP, **headers})
        assert response.status_code == status
        allowed(response)


def test_streams_too(shared: Server) -> None:
    body = {"model": "rnn-letters", "prompt": "a", "max_tokens": 3, "stream": True}
    response = httpx.post(f"{shared.url}/generate_text", json=body, headers={**KEY, "Origin": APP})
    assert response.headers["content-type"].startswith("text/event-stream")
    allowed(response)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "http://app.example",
        f"{APP}:443",
        f"{APP}/",
        "https://APP.example",
        f"{APP}.evil.example",
        "*",
    ],
)
def test_another_origin(shared: Server, origin: str | None) -> None:
    headers = KEY if origin is None else {**KEY, "Origin": origin}
    response = httpx.get(f"{shared.url}/models", headers=headers)
    assert response.status_code == 200
    assert "origin" in response.headers["vary"].lower()
    denied(response)
    if origin is not None:
        assert httpx.post(f"{shared.url}/regress", content=ROWS, headers=headers).status_code == 403


def test_metrics_are_nobodys(shared: Server) -> None:
    for method, more in (("GET", KEY), ("OPTIONS", PREFLIGHT)):
        response = httpx.request(method, f"{shared.url}/metrics", headers={"Origin": APP, **more})
        assert response.status_code == (200 if method == "GET" else 401)
        assert "origin" not in response.headers.get("vary", "").lower()
        denied(response)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/regress", "POST"),
        ("/models", "GET"),
        ("/models", "HEAD"),
        ("/models/diabetes", "GET"),
        ("/v1/completions", "POST"),
        ("/v2/models/diabetes/infer", "POST"),
        ("/v2/models/diabetes/versions/1/ready", "GET"),
        ("/docs.json", "GET"),
        ("/", "GET"),
    ],
)
def test_a_preflight_needs_no_key(shared: Server, path: str, method: str) -> None:
    asked = {**PREFLIGHT, "Access-Control-Request-Method": method}
    response = httpx.options(shared.url + path, headers=asked)
    assert response.status_code == 200
    assert not response.content
    allowed(response)
    assert response.headers["access-control-allow-methods"] == method
    assert response.headers["access-control-max-age"] == "600"
    granted = response.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "x-request-id", "x-request-timeout"} <= set(granted)
    assert "*" not in granted


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "POST", 404),
        ("/v2/nothing", "GET", 404),
        ("/regress", "GET", 405),
        ("/regress", "DELETE", 405),
        ("/models", "POST", 405),
        ("/", "POST", 405),
        ("/v2/models/diabetes/infer", "PUT", 405),
    ],
)
def test_a_preflight_for_what_is_not_there(shared: Server, path: str, method: str, status: int) -> None:
    asked = {**PREFLIGHT, "Access-Control-Request-Method": method}
    response = httpx.options(shared.url + path, headers=asked)
    assert response.status_code == status
    assert "access-control-allow-methods" not in response.headers
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "path", ["/v2/repository/models/{}/load", "/v2/models/{}/trace/setting", "/v2/models/{}/infer"]
)
def test_a_preflight_tells_no_names(shared: Server, path: str) -> None:
    known, unknown = (
        httpx.options(shared.url + path.format(name), headers=PREFLIGHT) for name in ("diabetes", "nothing")
    )
    assert known.status_code == unknown.status_code == 200
    typed = {**KEY, "Content-Type": "application/json"}
    if not path.endswith("infer"):
        assert httpx.post(shared.url + path.format("diabetes"), headers=typed).status_code == 403
    assert httpx.post(shared.url + path.format("nothing"), content=b"{}", headers=typed).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        {"Origin": "null", "Access-Control-Request-Method": "POST"},
        {"Origin": APP},
        {"Access-Control-Request-Method": "POST"},
    ],
)
def test_what_is_no_preflight_needs_a_key(shared: Server, headers: dict[str, str]) -> None:
    response = httpx.options(f"{shared.url}/regress", headers=headers)
    assert response.status_code == 401
    assert "access-control-allow-methods" not in response.headers


def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    application = Application(no_page, Settings(bundles=tmp_path))
    response = request(application, "OPTIONS", "/regress", headers=PREFLIGHT)
    assert response.status_code == 405
    assert "vary" not in response.headers
    denied(response)


def test_v2_needs_a_content_type_of_a_page(shared: Server) -> None:
    body = b'{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}'
    url = f"{shared.url}/v2/models/diabetes/infer"
    assert httpx.post(url, content=body, headers=KEY).status_code == 200
    assert httpx.post(url, content=body, headers={**KEY, "Origin": APP}).status_code == 415
    typed = {**KEY, "Origin": APP, "Content-Type": "application/json"}
    assert httpx.post(url, content=body, headers=typed).status_code == 200
