"""The access log: which requests it has, what it says of them, and what it never says."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from server import running, wait_for
from starlette.types import Receive, Scope, Send
from test_application import request
from tiny_zoo import write_regression, write_writer

from serving.application import ERROR_LINES, Application
from serving.engine import Engine
from serving.settings import Settings
from serving.turns import DeadlineExceeded

FIELDS = (
    "time", "request_id", "method", "path", "status", "model", "version",
    "ms", "queue_ms", "compute_ms", "bytes_in", "bytes_out",
)  # fmt: skip


async def no_page(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


def logged(
    folder: Path, which: str, caplog: pytest.LogCaptureFixture, path: str, body: object, broken: bool = False
) -> tuple[httpx.Response, list[dict[str, object]]]:
    """The answer to a request, and the lines that it left."""
    application = Application(no_page, Settings(bundles=folder, access_log=which))
    application._follower._step()
    if broken:
        application._engine.close()

    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
            return await client.post(path, json=body, headers={"X-Request-Id": "mine"})

    with caplog.at_level(logging.INFO, "serving.access"):
        response = asyncio.run(scenario())
    application._engine.close()
    return response, [json.loads(r.getMessage()) for r in caplog.records if r.name == "serving.access"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_regression(tmp_path / "regression")
    write_writer(tmp_path / "writer")
    return tmp_path


ROWS = {"model": "diabetes", "rows": [[4321, 2]]}
TEXT = {"model": "letters", "prompt": "abc", "max_tokens": 9}


@pytest.mark.parametrize(
    ("which", "body", "broken", "status", "lines"),
    [
        ("all", TEXT, False, 200, 1),
        ("all", {}, False, 422, 1),
        ("all", TEXT, True, 500, 1),
        ("errors", TEXT, False, 200, 0),
        ("errors", {}, False, 422, 0),
        ("errors", TEXT, True, 500, 1),
        ("off", TEXT, True, 500, 0),
    ],
)
def test_which_requests(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    which: str,
    body: object,
    broken: bool,
    status: int,
    lines: int,
) -> None:
    response, found = logged(folder, which, caplog, "/generate_text", body, broken)
    assert response.status_code == status
    assert [line["status"] for line in found] == [status] * lines


@pytest.mark.parametrize(("which", "lines"), [("errors", ERROR_LINES), ("all", 30)])
def test_many_errors(folder: Path, caplog: pytest.LogCaptureFixture, which: str, lines: int) -> None:
    application = Application(no_page, Settings(bundles=folder, access_log=which))
    with caplog.at_level(logging.INFO, "serving.access"):
        for _ in range(30):
            assert request(application, "GET", "/readyz").status_code == 503
    application._engine.close()
    assert sum(record.name == "serving.access" for record in caplog.records) == lines


def test_a_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    response, (line,) = logged(folder, "all", caplog, "/regress?rows=4321", ROWS)
    assert tuple(line) == FIELDS
    assert (line["request_id"], line["method"], line["path"]) == ("mine", "POST", "/regress")
    assert (line["status"], line["model"], line["version"]) == (200, "linear_regression-diabetes", "1")
    assert line["bytes_in"] == len(response.request.content)
    assert line["bytes_out"] == int(response.headers["content-length"])
    assert 0 < line["compute_ms"] < line["ms"]
    assert "4321" not in caplog.text


def test_a_stream_s_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    response, (line,) = logged(folder, "all", caplog, "/generate_text", {**TEXT, "stream": True})
    assert line["bytes_out"] == len(response.content)
    assert line["queue_ms"] > 0
    assert line["compute_ms"] > 0


def test_a_stream_that_fails_half_way(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pieces(*_: object) -> AsyncIterator[str]:
        yield "d"
        raise DeadlineExceeded("too late")

    monkeypatch.setattr(Engine, "pieces", pieces)
    response, (line,) = logged(folder, "errors", caplog, "/generate_text", {**TEXT, "stream": True})
    assert response.status_code == 200
    assert "deadline_exceeded" in response.text
    assert line["status"] == 504


def test_a_long_path_is_cut(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, (line,) = logged(folder, "all", caplog, "/" + "x" * 5000 + '"%0A', {})
    assert len(line["path"]) == 200


@pytest.mark.slow
def test_lines_stand_alone_in_the_service_s_output(folder: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", ZOO_BUNDLES=str(folder), ZOO_ACCESS_LOG="all") as server:
        httpx.post(f"{server.url}/regress", json=ROWS, headers={"X-Request-Id": "mine"})
        wait_for(lambda: '"mine"' in server.log.read_text())  # written once the answer is out
        lines = [line for line in server.log.read_text().splitlines() if '"mine"' in line]
    assert len(lines) == 1
    assert json.loads(lines[0])["status"] == 200
