"""Traces for an OpenTelemetry collector: one span per request, with events for the times of its phases.

Configured by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`,
`OTEL_TRACES_SAMPLER`, ...); if they name no collector, OpenTelemetry is not imported. Source of the names:
OpenTelemetry, Semantic conventions for HTTP spans.
"""

import re
import time
from collections.abc import Mapping

import orjson

from serving import openapi
from serving.exchange import Exchange
from serving.measurements import PHASES, SECOND

PARENT_HEADERS = ("traceparent", "tracestate")
ONE_MODEL = re.compile(r"/models/(?!stats$)[^/]+")
ONE_VERSION = re.compile(r"/versions/[^/]+")


class Tracer:
    """Creates spans of finished requests; a thread of the library sends them in batches."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = environment.get("OTEL_SERVICE_NAME", "model-zoo")
        # Not the global provider, so that spans of other libraries are not sent.
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("serving")
        self._parent = TraceContextTextMapPropagator().extract
        self._kind = SpanKind.SERVER
        self._error = StatusCode.ERROR
        self._routes = frozenset(orjson.loads(openapi.document(None))["paths"])

    def trace(self, exchange: Exchange, total: int) -> None:
        """Records the span of a request that took `total` nanoseconds."""
        end, timing, route = time.time_ns(), exchange.timing, self._route(exchange.path)
        attributes: dict[str, str | int] = {
            "http.request.method": exchange.method,
            "http.response.status_code": exchange.outcome,
            "zoo.request_id": exchange.request_id.decode(),
        }
        if route is not None:
            attributes["http.route"] = route
        if timing.model:
            attributes |= {"zoo.model": timing.model, "zoo.version": timing.version, "zoo.rows": timing.rows}
        headers = exchange.headers
        carrier = {name: headers.get(name.encode(), b"").decode("latin-1") for name in PARENT_HEADERS}
        span = self._tracer.start_span(
            exchange.method if route is None else f"{exchange.method} {route}",
            self._parent(carrier),
            self._kind,
            attributes,
            start_time=end - total,
        )
        for phase in PHASES:
            if spent := getattr(timing, phase):
                span.add_event(phase, {"seconds": spent / SECOND}, end)
        if exchange.outcome >= 500 or not exchange.outcome:
            span.set_status(self._error)
        span.end(end)

    def close(self) -> None:
        """Sends the remaining spans."""
        self._provider.shutdown()

    def _route(self, path: str) -> str | None:
        """Returns the route pattern of a path; None for an unknown path."""
        if path.startswith("/models/"):
            return "/models/{name}"
        pattern = ONE_VERSION.sub("/versions/{version}", ONE_MODEL.sub("/models/{model}", path, 1), 1)
        return pattern if pattern in self._routes else None
