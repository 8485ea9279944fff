"""`ZOO_API_KEYS`: who may ask, what others are told, and that no key is ever shown."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path

import httpx
import pytest
from requirement import require
from server import Server, running, wait_for
from test_application import no_page, request
from tiny_zoo import write_regression

from serving.application import Application
from serving.exchange import Exchange
from serving.keys import ApiKeys
from serving.problem import Problem
from serving.settings import Settings
from zoo.cli import main
from zoo.errors import ZooError

KEYS = ("first-Key.1-of-the-tests", "second~key+/of/the/tests==")
OPEN = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
NAMES = {"{name}": "diabetes", "{model}": "diabetes", "{version}": "1"}
BODY = {"model": "diabetes", "rows": [[1, 2]]}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("locked")
    write_regression(folder / "bundles" / "made")
    variables = {"ZOO_BUNDLES": str(folder / "bundles"), "ZOO_API_KEYS": ",".join(KEYS)}
    with running(folder / "log", **variables, ZOO_ACCESS_LOG="all") as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_a_key_opens_what_is_locked(locked: Server, key: str, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {key}"}
    assert httpx.post(f"{locked.url}/regress", json=BODY, headers=headers).status_code == 200
    index = httpx.post(f"{locked.url}/v2/repository/index", headers=headers)
    assert "diabetes" in [entry["name"] for entry in index.json()]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        ({"Authorization": ""}, 401, "unauthorized"),
        ({"Authorization": "Bearer"}, 401, "unauthorized"),
        ({"Authorization": f"Basic {KEYS[0]}"}, 401, "unauthorized"),
        ({"Authorization": KEYS[0]}, 401, "unauthorized"),
        (bearer("wrong"), 403, "forbidden"),
        (bearer(KEYS[0][:-1]), 403, "forbidden"),
        (bearer(KEYS[0] + "x"), 403, "forbidden"),
        (bearer(",".join(KEYS)), 403, "forbidden"),
        (bearer(KEYS[0].upper()), 403, "forbidden"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/regress", "/nothing", "/v2/models/x/infer", "/v2/repository/index", "/v1/completions"]
)
def test_without_one(locked: Server, path: str, headers: dict[str, str], status: int, code: str) -> None:
    response = httpx.post(locked.url + path, headers=headers)
    assert response.status_code == status
    assert response.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert response.headers["x-request-id"]
    answer = response.json()
    if path.startswith("/v2"):
        assert answer.keys() == {"error"}
    elif path.startswith("/v1"):
        error = answer["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
    else:
        assert answer.keys() == {"error", "code", "request_id"}
        assert answer["code"] == code


def routes(locked: Server, application: Application) -> set[str]:
    """Every path of the document, of the routers and of the pages, and some at which nothing answers."""
    document = httpx.get(f"{locked.url}/docs.json", headers=bearer(KEYS[0])).json()
    paths = {re.sub("{.*?}", lambda name: NAMES[name[0]], path) for path in document["paths"]}
    routed = {*application._zoo._routes._paths, *application._openai._routes._paths}
    routed |= {f"/v2/{path}" for path in application._v2._routes}
    unknown = {"/nothing", "/v2/nothing", "/v1/nothing", "/models/", "/v2/health", "/livez/", "/%6Dodels"}
    return paths | routed | application._pages.paths | unknown


def test_everything_but_health_checks_needs_one(locked: Server, tmp_path: Path) -> None:
    paths = routes(locked, Application(no_page, Settings(bundles=tmp_path)))
    assert len(paths) > 45
    assert paths > OPEN
    with httpx.Client(base_url=locked.url) as client:
        for path, method in product(paths, ("GET", "POST", "HEAD", "OPTIONS", "DELETE")):
            response = client.request(method, path)
            assert (response.status_code == 401) == (path not in OPEN), (method, path)


def test_health_checks_need_none(locked: Server) -> None:
    for path in OPEN:
        assert httpx.get(locked.url + path).status_code == 200
        assert httpx.get(locked.url + path, headers=bearer("wrong")).status_code == 200


def test_refusals_are_counted_and_logged_now_and_then(locked: Server) -> None:
    def refused() -> float:
        page = httpx.get(f"{locked.url}/metrics", headers=bearer(KEYS[0])).text
        return float(re.search(r'zoo_requests_refused_total{status="403"} ([0-9.]+)', page)[1])

    httpx.get(f"{locked.url}/models", headers=bearer("wrong"))
    before = refused()
    for _ in range(50):
        httpx.get(f"{locked.url}/models", headers=bearer("wrong-and-not-to-be-logged"))
    assert refused() == before + 50
    log = locked.log.read_text()
    assert 1 <= len(re.findall("refused 127.0.0.1 with 403", log)) < 10
    assert "not-to-be-logged" not in log


def test_metrics_may_be_open(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {"ZOO_API_KEYS": KEYS[0], "ZOO_OPEN_METRICS": "1", "ZOO_BUNDLES": str(tmp_path)}
    )
    application = Application(no_page, settings)
    assert request(application, "GET", "/metrics").status_code == 200
    assert request(application, "GET", "/docs.json").status_code == 401


def test_the_context_says_whose_key_it_was(tmp_path: Path) -> None:
    exchanges: list[Exchange] = []
    application = Application(no_page, Settings(bundles=tmp_path, api_keys=",".join(KEYS)))
    application._zoo = exchanges.append  # type: ignore[assignment]
    with contextlib.suppress(TypeError):  # it awaits nothing
        request(application, "GET", "/models", headers=bearer(KEYS[1]))
    assert [exchange.context.caller for exchange in exchanges] == [sha256(KEYS[1].encode()).digest()]


def test_the_command_line_has_a_key(
    locked: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "diabetes", "1,2", "--url", locked.url, "--json"]
    with pytest.raises(SystemExit, match="1"):
        main(command)
    assert "needs an API key" in capsys.readouterr().err
    monkeypatch.setenv("ZOO_API_KEY", KEYS[1])
    main(command)
    assert json.loads(capsys.readouterr().out)


def test_the_body_is_not_read(locked: Server) -> None:
    """An answer comes although the body never does."""

    async def scenario() -> bytes:
        address = httpx.URL(locked.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"POST /regress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        writer.close()
        return head

    assert b" 401 " in asyncio.run(scenario())


def test_no_key_is_logged(locked: Server) -> None:
    headers = {**bearer(KEYS[0]), "X-Request-Id": "with-a-key"}
    httpx.post(f"{locked.url}/regress?key={KEYS[1]}", json=BODY, headers=headers)
    wait_for(lambda: "with-a-key" in locked.log.read_text())  # written once the answer is out
    log = locked.log.read_text()
    line = next(json.loads(line) for line in log.splitlines() if "with-a-key" in line)
    assert line["path"] == "/regress"
    assert not any(key in log for key in KEYS)


def test_settings_hide_them() -> None:
    settings = Settings.from_environment({"ZOO_API_KEYS": ",".join(KEYS)})
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert not any(key in shown for key in KEYS)


LONG = "secret-secret-secret"


@pytest.mark.parametrize(
    "keys",
    [
        ",",
        f"{LONG},",
        f",{LONG}",
        f"{LONG} two",
        f"{LONG}\n",
        f"sécret{LONG}",
        f"={LONG}",
        "s",
        "secret-secret-s",
        f"{LONG},secret",
        f"secret,{LONG}",
    ],
)
def test_keys_that_cannot_be(keys: str) -> None:
    with pytest.raises(ZooError, match="ZOO_API_KEYS: ") as refused:
        Settings.from_environment({"ZOO_API_KEYS": keys, "ZOO_THREADS": "0"})
    assert "cret" not in str(refused.value)
    assert "ZOO_THREADS=0" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "{0}\n{1}\n",
        "{0}\r\n{1}\r\n",
        "{0}\n\n  {1}  \n\n",
        "{0},{1}",
        "{0}, {1}\n",
    ],
)
def test_keys_from_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text.format(*KEYS), newline="")
    settings = Settings.from_environment({"ZOO_API_KEYS_FILE": str(path)})
    assert settings == Settings(api_keys=",".join(KEYS))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b",",
        f"{LONG},\n".encode(),
        f"{LONG}\nsecret".encode(),
        f"{LONG} {LONG}".encode(),
        f"s\xe9cret{LONG}".encode("latin-1"),
        f"\0{LONG}".encode(),
    ],
)
def test_a_file_without_keys_or_with_others(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text)
    with pytest.raises(ZooError, match=r"^ZOO_API_KEYS_FILE: expected a file with keys of 16") as refused:
        Settings.from_environment({"ZOO_API_KEYS_FILE": str(path)})
    assert "cret" not in str(refused.value)


def test_a_pipe_is_no_file_of_keys(tmp_path: Path) -> None:
    require(hasattr(os, "mkfifo"), "named pipes")
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(ZooError, match="Not a regular file"):
        Settings.from_environment({"ZOO_API_KEYS_FILE": str(tmp_path / "keys")})


def test_a_file_of_too_many_keys(tmp_path: Path) -> None:
    """The last one of those that were read could be half a key."""
    (tmp_path / "keys").write_text(f"{KEYS[0]}\n" * 50_000)
    with pytest.raises(ZooError, match="more than 1048576 characters"):
        Settings.from_environment({"ZOO_API_KEYS_FILE": str(tmp_path / "keys")})


def test_a_byte_order_mark_before_the_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEYS[0]}\n", encoding="utf-8-sig")
    settings = Settings.from_environment({"ZOO_API_KEYS_FILE": str(tmp_path / "keys")})
    assert settings.api_keys is not None
    assert settings.api_keys.get_secret_value() == KEYS[0]


@pytest.mark.parametrize("path", ["/nowhere/keys", LONG, "/"])
def test_a_file_that_cannot_be_read(path: str) -> None:
    """Its name is not told: it could be a key that was set under the wrong name."""
    with pytest.raises(ZooError, match=r"^ZOO_API_KEYS_FILE: the file cannot be read: [A-Z]") as refused:
        Settings.from_environment({"ZOO_API_KEYS_FILE": path})
    assert path not in str(refused.value)


def test_keys_come_from_one_place(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEYS[0])
    both = {"ZOO_API_KEYS": KEYS[0], "ZOO_API_KEYS_FILE": str(path)}
    with pytest.raises(ZooError, match=r"^ZOO_API_KEYS and ZOO_API_KEYS_FILE are both set") as refused:
        Settings.from_environment(both)
    assert KEYS[0] not in str(refused.value)
    assert Settings.from_environment({**both, "ZOO_API_KEYS": ""}).api_keys is not None
    assert Settings.from_environment({**both, "ZOO_API_KEYS_FILE": ""}).api_keys is not None


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    monkeypatch.setattr("serving.keys.compare_digest", lambda a, b: compared.append(len(a)) or a == b)
    keys = ApiKeys(KEYS)
    keys.check(b"Bearer " + KEYS[0].encode())
    with pytest.raises(Problem):
        keys.check(b"Bearer x")
    assert compared == [32] * 4
