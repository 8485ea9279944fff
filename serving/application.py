"""The ASGI application in front of BentoML's: every path of ours is answered before BentoML's layers.

Behind metrics, tracing and timeouts of its own, BentoML would take as long again as an answer takes. It
keeps its page, `/`, the files of the page, and `/metrics`.
"""

import gc

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.bundles_folder import BundlesFolder
from serving.catalogue import Catalogue
from serving.engine import Engine
from serving.exchange import Exchange
from serving.follower import Follower
from serving.on_demand import OnDemand
from serving.protocols.v2 import ROOT, V2Protocol
from serving.protocols.zoo import ZooProtocol
from serving.registry import Registry
from serving.settings import Settings
from serving.source import Source
from zoo.home import tracking_uri

PAGE = ("/", "/metrics")
PAGE_FILES = "/static_content/"
COLLECT_AFTER = 50_000  # new objects; the default of 700 runs the collector every few requests


class Application:
    """The service as one ASGI application; its lifespan is the lifespan of engine and follower."""

    def __init__(self, page: ASGIApp, settings: Settings) -> None:
        """`page` answers what is BentoML's."""
        self._page = page
        self._engine = Engine(settings.device, settings.threads, settings.queue, settings.generations)
        self._follower = Follower(_source(settings), self._engine, settings.poll)
        self._on_demand = OnDemand(self._follower.load, settings.on_demand)
        self._zoo = ZooProtocol(self._engine, self._catalogue, settings.deadline)
        self._v2 = V2Protocol(self._engine, self._catalogue, self._on_demand, settings.deadline)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a connection of any type."""
        if scope["type"] == "http":
            exchange = Exchange(scope, receive, send)
            if exchange.path in PAGE or exchange.path.startswith(PAGE_FILES):
                await exchange.pass_on(self._page)
            elif exchange.path == ROOT or exchange.path.startswith(f"{ROOT}/"):
                await self._v2(exchange)
            else:
                await self._zoo(exchange)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._page(scope, receive, send)

    def _catalogue(self) -> Catalogue | None:
        return self._follower.catalogue

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        gc.set_threshold(COLLECT_AFTER)
        self._follower.start()
        try:
            await self._page(scope, receive, send)  # returns when the server stops
        finally:
            self._follower.stop()
            self._on_demand.close()
            self._engine.close()


def _source(settings: Settings) -> Source:
    return Registry(tracking_uri()) if settings.bundles is None else BundlesFolder(settings.bundles)
