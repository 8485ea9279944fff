"""Traces of the real service, received by a collector on loopback."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from collector import Received, collecting
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from server import running, wait_for
from tiny_zoo import write_regression

from serving.settings import traced
from zoo.errors import ZooError

pytestmark = pytest.mark.slow

BODY = {"model": "diabetes", "rows": [[1, 2]]}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[str, Received]]:
    with collecting() as opened:
        yield opened


@pytest.fixture(scope="module")
def traced_url(tmp_path_factory: pytest.TempPathFactory, collector: tuple[str, Received]) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("traced")
    write_regression(folder / "bundles" / "made")
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector[0], "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running(folder / "log", ZOO_BUNDLES=str(folder / "bundles"), **variables) as server:
        yield server.url


def plain(attributes: list[KeyValue]) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def spans(received: Received) -> dict[str, Span]:
    """By the id of the request."""
    found = [s for r in received for g in r.resource_spans for scope in g.scope_spans for s in scope.spans]
    return {plain(span.attributes)["zoo.request_id"]: span for span in found}


def span_of(collector: tuple[str, Received], url: str, method: str, path: str, **options: Any) -> Span:
    response = httpx.request(method, url + path, **options)
    name, received = response.headers["x-request-id"], collector[1]
    wait_for(lambda: name in spans(received))
    return spans(received)[name]


def test_a_prediction(collector: tuple[str, Received], traced_url: str) -> None:
    headers = {"traceparent": PARENT, "tracestate": "a=b"}
    span = span_of(collector, traced_url, "POST", "/regress", json=BODY, headers=headers)
    assert (span.name, span.kind) == ("POST /regress", Span.SPAN_KIND_SERVER)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert span.trace_state == "a=b"
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 30e9
    attributes = plain(span.attributes)
    del attributes["zoo.request_id"]
    assert attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/regress",
        "zoo.model": "linear_regression-diabetes",
        "zoo.version": "1",
        "zoo.rows": 1,
    }
    parts = {event.name: plain(event.attributes)["seconds"] for event in span.events}
    assert {"decode", "compute", "encode"} <= parts.keys()
    assert 0 < sum(parts.values()) < 30
    assert plain(collector[1][0].resource_spans[0].resource.attributes)["service.name"] == "model-zoo"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/models/diabetes", 200, "GET /models/{name}"),
        ("GET", "/v2/models/stats", 200, "GET /v2/models/stats"),
        ("GET", "/v2/models/diabetes", 200, "GET /v2/models/{model}"),
        ("GET", "/v2/models/x/versions/7/ready", 404, "GET /v2/models/{model}/versions/{version}/ready"),
        ("GET", "/nothing/at/all", 404, "GET"),
        ("GET", "/regress", 405, "GET /regress"),
        ("GET", "/", 200, "GET"),
    ],
)
def test_names_are_patterns(
    collector: tuple[str, Received], traced_url: str, method: str, path: str, status: int, name: str
) -> None:
    span = span_of(collector, traced_url, method, path, headers={"traceparent": "rubbish"})
    assert (span.name, plain(span.attributes)["http.response.status_code"]) == (name, status)
    assert not span.parent_span_id
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_an_error_of_the_service(collector: tuple[str, Received], traced_url: str) -> None:
    late = {"X-Request-Timeout": "0"}
    span = span_of(collector, traced_url, "POST", "/regress", json=BODY, headers=late)
    assert span.status.code == Status.STATUS_CODE_ERROR


def test_whether_there_is_a_collector() -> None:
    assert not traced({})
    assert not traced({"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert not traced({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"})
    assert traced({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"})


def test_without_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.settings.EXPORTER", "opentelemetry.nothing.at.all")
    with pytest.raises(ZooError, match=r"pip install '\.\[tracing\]'"):
        traced({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})


def test_nothing_is_imported_without_a_collector() -> None:
    code = "import sys, serving.application; assert not any('otlp' in name for name in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
