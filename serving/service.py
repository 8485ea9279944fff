"""The BentoML service: `bentoml serve serving.service:ZooService`, or `zoo serve`."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml

from serving import supervisor
from serving.artifact_roots import SQLITE
from serving.listening_address import bound, listening_address
from serving.log_sampling import LogSampling
from serving.settings import Settings, traced
from zoo.cpu_cores import cpu_cores
from zoo.errors import ZooError
from zoo.file_access import require_readable
from zoo.home import tracking_uri

if TYPE_CHECKING:
    from serving.application import Application


SAMPLED = (
    "python_multipart.multipart",
    "serving.inference",
    "serving.problem",
    "uvicorn.error",
)
"""Loggers that write a line for each failed request, and are therefore rate-limited."""
BUNDLES = "src/bundles"  # in a Bento; see [tool.bentoml.build] in pyproject.toml


class FrontedService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML has no types
    """BentoML service that serves our ASGI application, with BentoML's behind it."""

    def on_load_bento(self, bento: bentoml.Bento) -> None:
        """Makes a Bento serve the bundles that it contains."""
        super().on_load_bento(bento)
        os.environ.setdefault("ZOO_BUNDLES", bento.path_of(BUNDLES))

    def to_asgi(self, is_main: bool = True) -> "Application":
        """Returns the ASGI application of the worker process."""
        from uvicorn.config import HTTP_PROTOCOLS, LOOP_FACTORIES

        from serving import access_log
        from serving.application import Application
        from serving.connection import BoundedConnection
        from serving.open_connections import allow_files

        access_log.to_stdout()
        logging.getLogger("serving").setLevel(logging.INFO)
        for name in SAMPLED:
            logging.getLogger(name).addFilter(LogSampling())
        try:
            settings = bound(Settings.from_environment(os.environ), listening_address())
        except ZooError as error:  # for example if the file with keys has changed since the start
            sys.exit(f"zoo: {error}")
        # BentoML lets uvicorn choose the protocol and the event loop, and has no setting for them.
        HTTP_PROTOCOLS["auto"] = "serving.connection:BoundedConnection"
        LOOP_FACTORIES["asyncio"] = "serving.event_loop:selector_loop"
        tracer = None
        if traced(os.environ):
            from serving.tracing import Tracer

            tracer = Tracer(os.environ)
        application = Application(super().to_asgi(is_main), settings, tracer)
        BoundedConnection.keep_alive = settings.keep_alive
        BoundedConnection.all_open = application.connections
        BoundedConnection.refusals = application.refusals
        allow_files(settings.connections)
        return application


def _workers() -> int:
    try:
        return Settings.from_environment(os.environ).workers
    except ZooError:
        return 1  # no worker will start: `check_settings` reports the error


@bentoml.service(
    service_class=FrontedService,
    workers=_workers(),
    http={"host": "127.0.0.1", "port": 3000},
)
class ZooService:
    """Every model of the zoo, by its registered name or by its data set's."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check_settings() -> None:
        """Aborts the start, before there is a worker, if the settings are invalid or cannot be met."""
        try:
            settings = Settings.from_environment(os.environ)
            traced(os.environ)
            cpu_cores()
            uri = tracking_uri()
            if settings.bundles is None and uri.startswith(SQLITE):
                database = Path(uri.removeprefix(SQLITE)).absolute()
                require_readable(database.parent, database)
            if settings.device != "cpu":
                from serving.engine import require_device

                require_device(settings.device)
            if settings.workers > 1:
                from serving.siblings import meeting_place

                os.environ["ZOO_MEETING_PLACE"] = str(meeting_place())
        except ZooError as error:
            sys.exit(f"zoo: {error}")

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def close_ports() -> None:
        """Makes BentoML's supervisor, which starts after this, listen on no ports of its own."""
        supervisor.close_ports()
