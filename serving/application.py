"""ASGI application in front of BentoML's: it answers every path, so that no request reaches BentoML's layers.

BentoML's own layers for metrics, tracing and timeouts would double the time of a request. BentoML only
handles the lifespan: it starts and stops with the server.
"""

import asyncio
import gc
import logging
import math
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from serving import access_log
from serving.bundle_cache import BundleCache
from serving.bundles_folder import BundlesFolder
from serving.catalogue import Catalogue
from serving.challenges import Challenges
from serving.child_process import ChildProcesses
from serving.cors import Cors, permission
from serving.door import Door
from serving.drain import Drain
from serving.engine import Engine
from serving.exchange import TEXT, Exchange
from serving.follower import Follower
from serving.inference import Inference
from serving.log_sampling import LogSampling
from serving.measurements import Measurements
from serving.memory import MemoryBudget
from serving.on_demand import OnDemand
from serving.open_connections import OpenConnections
from serving.openapi import document
from serving.pages.pages import Pages
from serving.problem import Problem, draining, problem_of
from serving.protocols.openai.protocol import OpenAIProtocol
from serving.protocols.v2.protocol import V2Protocol
from serving.protocols.zoo import ZooProtocol
from serving.readiness import Readiness
from serving.refusals import Refusals
from serving.registry import Registry
from serving.settings import Settings
from serving.siblings import Siblings
from zoo.errors import ZooError
from zoo.file_access import require_readable
from zoo.home import serving_cache, tracking_uri

if TYPE_CHECKING:
    from serving.tracing import Tracer

log = logging.getLogger(__name__)

UNTIL_THE_END = frozenset({"/livez", "/v2/health/live", "/metrics"})
"""Paths that are answered as usual while the service drains."""
SENDING_SECONDS = 1.0  # time to send an answer after its deadline, while the service drains
LOGGED_FROM = {"off": math.inf, "errors": 500, "all": 0}
"""Lowest status that is logged; 0 is the status of an incomplete answer."""
ERROR_LINES = 10
"""Access log lines per minute and status if only errors are logged: enough request ids to investigate."""
LOOK_SECONDS = 10.0
"""Seconds between two checks for drift and for idle child processes."""
COLLECT_AFTER = 10_000
"""Number of new objects that starts a garbage collection: 0.2 ms for 10,000 lists, 1.4 ms for 50,000.

Requests leave no garbage for the collector. The default of 700 would run it several times while the body of
one request with 64 images is parsed, although all of its lists are still in use."""
SWITCH_SECONDS = 0.0005
"""Seconds that a thread may run Python before it must yield to the event loop.

While another thread is busy, a task scheduled every millisecond runs 0.8 ms late (median), and 5.2 ms late
with Python's default of 5 ms. The throughput was the same with both."""

Answering = ZooProtocol | V2Protocol | OpenAIProtocol | Pages
"""Protocol that answers the paths of one dialect."""


class Application:
    """The service as one ASGI application. Its lifespan starts and stops the engine and the follower."""

    def __init__(self, bentoml: ASGIApp, settings: Settings, tracer: "Tracer | None" = None) -> None:
        """`bentoml` gets the lifespan events; `tracer`, if any, gets every request."""
        self._bentoml = bentoml
        self._engine = Engine(
            settings.device,
            settings.threads,
            settings.queue,
            settings.generations,
            settings.workers,
            verdicts=None if settings.bundles is not None else serving_cache() / "verdicts",
        )
        self._follower = _follower(settings, self._engine)
        self._on_demand = OnDemand(self._follower.load, settings.on_demand)
        self._siblings = Siblings(settings.meeting_place)
        turns = self._engine.turns
        drain = self._drain = Drain(settings.drain, settings.deadline + SENDING_SECONDS)
        turns.alone = lambda: drain.in_flight == 1
        readiness = Readiness(self._follower, turns, drain, settings.deadline)
        self._memory = MemoryBudget(settings.memory, lambda: turns.backlog_seconds)
        self.connections = OpenConnections(settings, self._memory)
        self.refusals = Refusals()
        self.measurements = Measurements(
            self._engine,
            self._catalogue,
            self._follower,
            self._siblings,
            self._memory,
            self.connections,
            self.refusals,
            settings,
        )
        self.measurements.include(readiness)
        self._challenges = Challenges(self._engine, self._catalogue, self._siblings)
        self.measurements.include(self._challenges)
        inference = Inference(self._engine)
        self._children = children = ChildProcesses(settings.memory)
        self._zoo = ZooProtocol(
            inference,
            turns,
            children,
            self._catalogue,
            readiness,
            self.measurements.page,
            partial(document, locked=settings.api_keys is not None, open_metrics=settings.open_metrics),
            settings.deadline,
        )
        self._v2 = V2Protocol(
            inference,
            turns,
            children,
            self._catalogue,
            readiness,
            self._on_demand,
            self.measurements.statistics,
            settings.deadline,
        )
        self._openai = OpenAIProtocol(
            inference, turns, children, self._catalogue, settings.deadline, settings.generations
        )
        self._pages = Pages(self._catalogue, settings)
        self._cors = Cors(settings.origins) if settings.origins else None
        self._door = Door(settings, self._cors, self.refusals)
        self._tracer = tracer
        self._logged_from = LOGGED_FROM[settings.access_log]
        # A client can cause errors as fast as it sends requests, for example with a deadline of 0 seconds.
        self._error_sampling = LogSampling(ERROR_LINES) if settings.access_log == "errors" else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, runs the lifespan, and refuses a WebSocket."""
        if scope["type"] == "http":
            await self._account(Exchange(scope, receive, send, self._memory))
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:  # a WebSocket, which the service does not support
            await send({"type": "websocket.close"})

    def _catalogue(self) -> Catalogue | None:
        return self._follower.catalogue

    async def _account(self, exchange: Exchange) -> None:
        self._drain.in_flight += 1
        try:
            await self._answer(exchange)
        finally:
            self._drain.in_flight -= 1
            total, outcome = time.monotonic_ns() - exchange.begun, exchange.outcome
            self.measurements.record(exchange.dialect, outcome, total, exchange.timing)
            context = exchange.context
            if context.contest is not None:
                self._challenges.record(context.contest, outcome, context.timing)
            context.free()
            # Unlike other 5xx errors, 501 is the client's fault, and `Refusals` logs it.
            if outcome >= self._logged_from and (outcome != 501 or self._logged_from == 0):
                access_log.write(exchange, total, self._error_sampling)
            if self._tracer is not None:
                self._tracer.trace(exchange, total)

    async def _answer(self, exchange: Exchange) -> None:
        cors = self._cors
        if cors is not None:
            exchange.common_fields = cors.fields(exchange)
        try:
            if self._drain.begun and exchange.path not in UNTIL_THE_END:
                raise draining()
            self._door.check(exchange)
        except Problem as problem:
            await exchange.refuse(problem)
            return
        protocol = self._protocol(exchange)
        asked = None if cors is None else cors.asked_method(exchange)
        if asked is None:
            await protocol(exchange)
        else:
            await _permit(exchange, protocol, asked)

    def _protocol(self, exchange: Exchange) -> Answering:
        if exchange.dialect == "v2":
            return self._v2
        if exchange.dialect == "openai":
            return self._openai
        return self._pages if exchange.path in self._pages.paths else self._zoo

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        gc.set_threshold(COLLECT_AFTER)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._follower.start()
        self._drain.take_over()
        await self._siblings.start()
        watching = asyncio.create_task(self._look_after())
        try:
            await self._bentoml(scope, receive, send)  # returns when the server stops
        finally:
            watching.cancel()
            self._siblings.close()
            self._follower.stop()
            self._on_demand.close()
            self._challenges.close()
            self._engine.close()
            self._children.close()
            self._openai.close()
            if self._tracer is not None:
                self._tracer.close()

    async def _look_after(self) -> None:
        """Ends idle child processes and computes the drift of every version; a large drift is logged."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self._children.end_idle)
            if (catalogue := self._catalogue()) is not None:
                await asyncio.to_thread(lambda: list(catalogue.drift()))


async def _permit(exchange: Exchange, protocol: Answering, method: str) -> None:
    """Answers a preflight; grants it if a handler exists for the path and method."""
    try:
        protocol.handler(exchange.path, method)
    except Exception as error:
        await exchange.refuse(problem_of(error))
    else:
        await exchange.answer(200, b"", TEXT, permission(method))


def _follower(settings: Settings, engine: Engine) -> Follower:
    if settings.bundles is not None:
        return Follower(BundlesFolder(settings.bundles), engine, settings.poll, None)
    cache: BundleCache | None = BundleCache(serving_cache())
    try:
        require_readable(serving_cache(), serving_cache() / "listing.json")
    except ZooError as error:
        log.warning("bundles are not cached for a start without the registry: %s", error)
        cache = None
    registry = Registry(tracking_uri(), cache is not None and cache.holds_listing, settings.sources)
    return Follower(registry, engine, settings.poll, cache)
