"""The application without a server: before it is ready, and when something goes wrong inside."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send
from tiny_zoo import write_generator, write_regression

from serving.application import Application
from serving.context import RequestContext
from serving.problem import problem_of
from serving.settings import Settings
from serving.turns import DeadlineExceeded, Job, Overloaded
from zoo.cpu_cores import cpu_cores
from zoo.errors import InputTooLarge, InvalidInput, NotFound, ZooError


async def no_page(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("/home/someone/secret.py")


def request(application: Application, method: str, path: str, **options: object) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/readyz"), ("GET", "/models"), ("GET", "/models/x"), ("POST", "/regress")]
)
def test_before_the_first_models_are_loaded(tmp_path: Path, method: str, path: str) -> None:
    application = Application(no_page, Settings(bundles=tmp_path))
    response = request(application, method, path, json={})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["code"] == "not_ready"
    assert request(application, "GET", "/livez").status_code == 200
    assert request(application, "GET", "/docs.json").status_code == 200


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready"])
def test_threads_that_are_all_on_one_job(tmp_path: Path, path: str) -> None:
    write_regression(tmp_path / "made")
    application = Application(no_page, Settings(bundles=tmp_path, deadline=0.1))
    application._follower._step()
    turns, end = application._engine.turns, threading.Event()
    assert request(application, "GET", path).status_code == 200
    for _ in range(cpu_cores()):
        turns.submit("lane", Job(end.wait, RequestContext()))
    while not turns.stuck(0.1):
        time.sleep(0.01)
    response = request(application, "GET", path)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert request(application, "GET", "/livez").status_code == 200
    end.set()
    while turns.stuck(0.1):
        time.sleep(0.01)
    assert request(application, "GET", path).status_code == 200


def test_a_websocket_is_refused(tmp_path: Path) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/regress", "headers": []}
    asyncio.run(Application(no_page, Settings(bundles=tmp_path))(scope, receive, send))
    assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputTooLarge("x"), 413),
        (InvalidInput("x"), 422),
        (NotFound("x"), 404),
        (Overloaded("x"), 503),
        (DeadlineExceeded("x"), 504),
        (ZooError("x"), 500),
    ],
)
def test_statuses_of_the_domains_errors(error: ZooError, status: int) -> None:
    problem = problem_of(error)
    assert problem.status == status
    assert ("Retry-After" in problem.headers) == (status == 503)


def test_what_nobody_foresaw_is_logged_and_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_regression(tmp_path / "made")
    application = Application(no_page, Settings(bundles=tmp_path))
    application._follower._step()

    async def fail(*_: object) -> None:
        raise RuntimeError("/home/someone/secret.py")

    monkeypatch.setattr(application._engine, "run", fail)
    with caplog.at_level(logging.ERROR):
        response = request(application, "POST", "/regress", json={"model": "diabetes", "rows": [[1, 2]]})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_a_generator_alone_does_not_have_its_data_sets_name(tmp_path: Path) -> None:
    write_generator(tmp_path / "made")
    application = Application(no_page, Settings(bundles=tmp_path))
    application._follower._step()
    entries = request(application, "GET", "/models").json()["models"]
    assert [entry["name"] for entry in entries] == ["gan-mnist"]
    assert request(application, "GET", "/models/mnist").status_code == 404


def test_a_client_that_leaves_half_way(tmp_path: Path) -> None:
    write_regression(tmp_path / "made")
    application = Application(no_page, Settings(bundles=tmp_path))
    application._follower._step()
    sent: list[dict[str, object]] = []

    async def messages() -> AsyncIterator[dict[str, object]]:
        yield {"type": "http.request", "body": b"{", "more_body": True}
        yield {"type": "http.disconnect"}

    async def scenario() -> None:
        coming = messages()

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/regress",
            "raw_path": b"/regress",
            "http_version": "1.0",
            "headers": [],
        }
        await application(scope, lambda: anext(coming), send)

    asyncio.run(scenario())
    assert sent[0]["status"] == 400
