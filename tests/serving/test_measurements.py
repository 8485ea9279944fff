"""`/metrics` and the statistics of Triton's protocol: each request counted once, under what is registered."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server import Server, running
from starlette.types import Receive, Scope, Send
from tiny_zoo import TinyRegistry, write_copier, write_regression, write_writer

from serving.application import Application
from serving.measurements import LONGEST_REASON, SIZES, Duration, Histogram, Statistics
from serving.settings import Settings

MODEL = "linear_regression-diabetes"
PHASES = ("queue", "decode", "compute", "encode")
ROWS = {"model": MODEL, "rows": [[1, 2], [3, 4], [5, 6]]}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    write_regression(tmp_path / "regression")
    write_writer(tmp_path / "writer")
    write_copier(tmp_path / "copier")
    application = Application(page, Settings(bundles=tmp_path))
    application._follower._step()
    yield application
    application._engine.close()


def ask(application: Application, method: str, path: str, **options: object) -> httpx.Response:
    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
            return await client.request(method, path, **options)

    return asyncio.run(scenario())


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def scraped(application: Application) -> Samples:
    return parsed(ask(application, "GET", "/metrics").text)


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_a_prediction_is_counted_and_timed(application: Application) -> None:
    for _ in range(2):
        assert ask(application, "POST", "/regress", json=ROWS).status_code == 200
    samples = scraped(application)
    of = {"model": MODEL, "version": "1"}
    assert value(samples, "zoo_requests_total", dialect="zoo", outcome="2xx", **of) == 2
    assert value(samples, "zoo_rows_total", **of) == 6
    assert value(samples, "zoo_executions_total", **of) == 2
    assert value(samples, "zoo_batch_size_bucket", le="2", **of) == 0
    assert value(samples, "zoo_batch_size_bucket", le="4", **of) == 2
    assert value(samples, "zoo_batch_size_sum", **of) == 6
    total = value(samples, "zoo_request_seconds_sum", **of)
    phases = [value(samples, f"zoo_{phase}_seconds_sum", **of) for phase in PHASES]
    assert all(value(samples, f"zoo_{phase}_seconds_count", **of) == 2 for phase in PHASES)
    assert all(phases[1:]), "decode, compute and encode take time; where nothing waits, the queue takes none"
    assert sum(phases) < total


def test_rows_in_batches(application: Application) -> None:
    rows = [[1, 2]] * 150
    served = application._follower.catalogue.find(MODEL)
    object.__setattr__(served.loaded, "row_seconds", 2e-4)  # a slow model: 64 rows at a time, in a thread
    assert ask(application, "POST", "/regress", json={**ROWS, "rows": rows}).status_code == 200
    (statistics,) = application.measurements.statistics((MODEL, "1"))
    assert (statistics.inference_count, statistics.execution_count) == (150, 3)
    assert statistics.queue.ns > 0
    assert value(scraped(application), "zoo_batch_size_bucket", model=MODEL, version="1", le="32") == 1


@pytest.mark.parametrize(
    ("path", "body", "rows", "least"),
    [
        ("/generate_text", {"model": "rnn-letters", "prompt": "abc", "max_tokens": 7}, 1, 7),
        ("/generate_text", {"model": "rnn-letters", "prompt": "abc", "max_tokens": 7, "stream": True}, 1, 7),
        ("/transform_text", {"model": "transformer-echo", "text": ["six", "four five"]}, 2, 2),
        ("/transform_text", {"model": "transformer-echo", "text": "six"}, 1, 2),
    ],
)
def test_texts_that_are_written(
    application: Application, path: str, body: dict[str, object], rows: int, least: int
) -> None:
    assert ask(application, "POST", path, json=body).status_code == 200
    (statistics,) = application.measurements.statistics((str(body["model"]), "1"))
    assert statistics.success.count == 1
    assert statistics.inference_count == rows
    assert statistics.execution_count >= least
    assert 0 < statistics.compute_infer.ns < statistics.success.ns


@pytest.mark.parametrize(
    ("method", "path", "body", "labels"),
    [
        ("POST", "/regress", {**ROWS, "model": "no-such-model"}, ("", "", "zoo", "4xx")),
        ("POST", "/regress", {**ROWS, "model": "diabetes"}, (MODEL, "1", "zoo", "2xx")),
        ("POST", "/regress", {**ROWS, "rows": [[1, 2, 3]]}, (MODEL, "1", "zoo", "4xx")),
        ("POST", "/regress", {**ROWS, "surplus": 1}, (MODEL, "1", "zoo", "4xx")),
        ("POST", "/classify", ROWS, (MODEL, "1", "zoo", "4xx")),
        ("POST", "/regress", {}, ("", "", "zoo", "4xx")),
        ("GET", "/models/no-such-model", None, ("", "", "zoo", "4xx")),
        ("GET", "/models", None, ("", "", "zoo", "2xx")),
        ("GET", "/v2/no-such-path", None, ("", "", "v2", "4xx")),
        ("GET", "/v1/no-such-path", None, ("", "", "openai", "4xx")),
        ("GET", "/", None, ("", "", "zoo", "2xx")),
    ],
)
def test_labels(
    application: Application, method: str, path: str, body: object, labels: tuple[str, str, str, str]
) -> None:
    ask(application, method, path, json=body)
    names = ("model", "version", "dialect", "outcome")
    text = ask(application, "GET", "/metrics").text
    counted = {key: v for key, v in parsed(text).items() if key[0] == "zoo_requests_total"}
    assert counted == {("zoo_requests_total", frozenset(zip(names, labels, strict=True))): 1}
    assert "no-such" not in text


def test_statistics(application: Application) -> None:
    nothing = Duration(0, 0)
    zeros = Statistics(nothing, nothing, nothing, nothing, nothing, nothing, 0, 0, 0)
    assert application.measurements.statistics((MODEL, "1")) == [zeros]
    before = time.time_ns() // 1_000_000
    for rows in ([[1, 2]], [[1, 2]] * 5, [[1]]):
        ask(application, "POST", "/regress", json={**ROWS, "rows": rows})
    (statistics,) = application.measurements.statistics((MODEL, "1"))
    phases = (statistics.queue, statistics.compute_input, statistics.compute_infer, statistics.compute_output)
    assert [phase.count for phase in phases] == [2] * 4
    assert sum(phase.ns for phase in phases) < statistics.success.ns
    assert statistics.success.count == 2
    assert statistics.fail.count == 1
    assert statistics.fail.ns > 0
    assert (statistics.inference_count, statistics.execution_count) == (6, 2)
    assert before <= statistics.last_inference <= time.time_ns() // 1_000_000
    assert application.measurements.statistics((MODEL, "2")) == [zeros]


def test_places_for_texts(application: Application) -> None:
    samples: list[Samples] = []

    async def scenario() -> None:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
            body = {"model": "rnn-letters", "prompt": "abc", "max_tokens": 4000}
            writing = asyncio.create_task(client.post("/generate_text", json=body))
            while not application._engine.writing()["rnn-letters"]:
                await asyncio.sleep(0)
            samples.append(parsed((await client.get("/metrics")).text))
            await writing

    asyncio.run(scenario())
    samples.append(scraped(application))
    most = Settings().generations
    for seen, busy in zip(samples, (1, 0), strict=True):
        for model, own in (("rnn-letters", busy), ("transformer-echo", 0)):
            assert value(seen, "zoo_generation_slots", model=model, state="busy") == own
            assert value(seen, "zoo_generation_slots", model=model, state="free") == most - own
        assert value(seen, "zoo_generation_slots", model=MODEL, state="free") is None


@pytest.mark.parametrize(("size", "bucket"), [(1, 0), (2, 1), (3, 2), (4096, 12), (4097, 13)])
def test_a_bound_belongs_to_its_bucket(size: int, bucket: int) -> None:
    histogram = Histogram(SIZES)
    histogram.add(size, 2)
    assert histogram.counts[bucket] == histogram.count == 2
    assert histogram.sum == 2 * size


def test_the_registry_s_state(tmp_path: Path) -> None:
    registry = TinyRegistry(tmp_path / "home")
    made = write_regression(tmp_path / "made")
    registry.promote(MODEL, registry.register(made))
    reason = "worse " * 50
    registry.register(write_regression(tmp_path / "worse", bias=9), gate="failed", reason=reason)
    with running(tmp_path / "log", ZOO_HOME=str(registry.home)) as server:
        lineage = httpx.get(f"{server.url}/models/{MODEL}").json()["lineage"]
        samples = parsed(httpx.get(f"{server.url}/metrics").text)
        keys = ("model", "version", "provider", "digest")
        assert value(samples, "zoo_model_served", **{key: lineage[key] for key in keys}) == 1
        assert sum(name == "zoo_model_served" for name, _ in samples) == 1, "no data set's name"
        assert value(samples, "zoo_version_skew", model=MODEL) == 0
        refused = {"model": MODEL, "version": "2", "reason": reason[:LONGEST_REASON]}
        assert value(samples, "zoo_version_refused", **refused) == 1
        assert 0 <= value(samples, "zoo_registry_read_age_seconds") < 30

        broken = write_regression(tmp_path / "broken", bias=7)
        number = registry.register(broken)
        (registry.files(MODEL, number) / "model.onnx").write_bytes(b"\0")
        registry.promote(MODEL, number)
        end = time.monotonic() + 20
        while value(samples, "zoo_version_skew", model=MODEL) != 2 and time.monotonic() < end:
            samples = parsed(httpx.get(f"{server.url}/metrics").text)
        assert value(samples, "zoo_version_skew", model=MODEL) == 2
        reasons = [dict(labels) for name, labels in samples if name == "zoo_version_refused"]
        assert any(r["version"] == "3" and "model.onnx" in r["reason"] for r in reasons)
        assert str(registry.home) not in httpx.get(f"{server.url}/metrics").text


def test_the_page_is_ours(server: Server, client: httpx.Client) -> None:
    client.get("/models")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = parsed(response.text)
    assert value(samples, "process_resident_memory_bytes") > 1e7
    assert not any("bentoml" in name for name, _ in samples)
    assert client.post("/metrics").status_code == 405
