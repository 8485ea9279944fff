"""`ZOO_API_KEYS`: who may ask, what others are told, and that no key is ever shown."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import Server, running, wait_for
from tiny_zoo import write_regression

from serving.keys import ApiKeys
from serving.problem import Problem
from serving.settings import Settings
from zoo.cli import main
from zoo.errors import ZooError

KEYS = ("first-Key.1", "second~key+/==")
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


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
        "/models",
        "/metrics",
        "/docs.json",
        "/docs",
        "/",
    ],
)
def test_what_is_only_read_needs_none(locked: Server, path: str) -> None:
    assert httpx.get(locked.url + path).status_code == 200


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
        writer.write(b"POST /regress HTTP/1.1\r\nHost: zoo\r\nContent-Length: 30000000\r\n\r\n")
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


@pytest.mark.parametrize("keys", [",", "secret,", ",secret", "secret two", "secret\n", "sécret", "=secret"])
def test_keys_that_cannot_be(keys: str) -> None:
    with pytest.raises(ZooError, match="ZOO_API_KEYS: ") as refused:
        Settings.from_environment({"ZOO_API_KEYS": keys, "ZOO_THREADS": "0"})
    assert "cret" not in str(refused.value)
    assert "ZOO_THREADS=0" in str(refused.value)


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    monkeypatch.setattr("serving.keys.compare_digest", lambda a, b: compared.append(len(a)) or a == b)
    keys = ApiKeys(KEYS)
    keys.check(b"Bearer " + KEYS[0].encode())
    with pytest.raises(Problem):
        keys.check(b"Bearer x")
    assert compared == [32] * 4
