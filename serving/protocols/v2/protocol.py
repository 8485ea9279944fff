"""Open Inference Protocol, version 2, with Triton's extensions, compatible with `tritonclient.http`.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md,
https://github.com/triton-inference-server/server/tree/main/docs/protocol

Models that answer in one run take and return the graph's own tensors; models that generate texts take and
return texts. A version in a path is a number or an alias. Only inference responses are compressed: Triton's
asyncio client asks for compression in every request, but cannot decompress other responses.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson

from serving.catalogue import Catalogue, Served
from serving.child_process import ChildProcesses
from serving.exchange import SMALL_BODY, Exchange
from serving.inference import Inference
from serving.measurements import Statistics
from serving.memory import Body
from serving.on_demand import OnDemand
from serving.problem import Problem, let_go
from serving.protocols.v2.inference import V2Inference
from serving.protocols.v2.problem import v2_problem_of
from serving.protocols.v2.request import json_object, member, require_few_values
from serving.protocols.v2.statistics import rendered
from serving.protocols.v2.versions import Versions
from serving.readiness import Readiness
from serving.turns import ClientLeft, Turns

Handler = Callable[[Exchange], Awaitable[None]]
Handlers = dict[str, Handler]
"""Handlers by HTTP method."""
ModelHandler = Callable[[Exchange, str, str], Awaitable[None]]
"""Receives an exchange, a model's name and the requested version; an empty version is the champion."""

ROOT = "/v2"
SERVER = {
    "name": "model-zoo",
    "version": "1",
    "extensions": [
        "binary_tensor_data",
        "classification",
        "statistics",
        "model_configuration",
        "model_repository",
        "parameters",
        "generate",
        "trace",
        "logging",
    ],
}
TRACE = {
    "trace_file": "",
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_mode": "triton",
}
LOGGING = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
PROMOTE = "versions follow the registry: `zoo promote NAME VERSION` has a model answer with another one"
FIXED = "settings are read once, when the service starts"


class V2Protocol:
    """Answers each exchange at a path under `/v2`."""

    def __init__(
        self,
        inference: Inference,
        turns: Turns,
        children: ChildProcesses,
        catalogue: Callable[[], Catalogue | None],
        readiness: Readiness,
        on_demand: OnDemand,
        statistics: Callable[..., list[Statistics]],
        deadline: float,
    ) -> None:
        """`catalogue` returns the current snapshot, `statistics` the counts of registered models' versions.

        `deadline` is the maximum duration of a request, in seconds.
        """
        self._turns = turns
        self._deadline = deadline
        self._readiness = readiness
        self._statistics = statistics
        self._versions = Versions(catalogue, on_demand)
        v2 = V2Inference(inference, turns, children, self._versions, deadline)
        self._routes: dict[str, Handlers] = {
            "": {"GET": partial(_show, SERVER)},
            "health/live": {"GET": partial(_show, {"live": True})},
            "health/ready": {"GET": self._ready},
            "models/stats": {"GET": self._all_statistics},
            "repository/index": {"POST": self._index},
            "trace/setting": {"GET": partial(_show, TRACE), "POST": partial(_forbid, FIXED)},
            "logging": {"GET": partial(_show, LOGGING), "POST": partial(_forbid, FIXED)},
        }
        self._model_routes: dict[str, tuple[str, ModelHandler]] = {
            "": ("GET", self._metadata),
            "ready": ("GET", self._model_ready),
            "config": ("GET", self._config),
            "stats": ("GET", self._model_statistics),
            "infer": ("POST", v2.infer),
            "generate": ("POST", v2.generate),
            "generate_stream": ("POST", v2.generate_stream),
        }

    def handler(self, path: str, method: str) -> Handler:
        """Returns the handler of a path and method; raises `Problem` 404 for the path, 405 for the method."""
        handlers = self._handlers(path.removeprefix(ROOT).removeprefix("/"))
        method = "GET" if method == "HEAD" else method
        if method not in handlers:
            allow = ", ".join(handlers).replace("GET", "GET, HEAD")
            message = "this path does not take this method"
            raise Problem(405, "method_not_allowed", message, {"Allow": allow})
        return handlers[method]

    async def __call__(self, exchange: Exchange) -> None:
        """Answers an exchange; errors become error responses."""
        try:
            await self.handler(exchange.path, exchange.method)(exchange)
        except ClientLeft as error:  # nobody is left to answer
            let_go(error)
        except Exception as error:
            await exchange.refuse(v2_problem_of(error))

    def _handlers(self, path: str) -> Handlers:
        """Returns a path's handlers by method; raises `Problem` 404 if the path has none.

        Models are looked up by the handlers, not here: a CORS preflight needs no API key, and must not
        reveal which models exist.
        """
        if path in self._routes:
            return self._routes[path]
        match path.split("/"):
            case ["models", name, "trace", "setting"]:
                handlers = self._routes["trace/setting"].items()
                return {method: partial(self._of_model, name, handler) for method, handler in handlers}
            case ["models", name, "versions", version, *rest] if version:
                return self._model_handlers(name, version, "/".join(rest))
            case ["models", name, *rest]:
                return self._model_handlers(name, "", "/".join(rest))
            case ["repository", "models", name, "load" | "unload"]:
                return {"POST": partial(self._of_model, name, partial(_forbid, PROMOTE))}
        raise _no_path()

    def _model_handlers(self, name: str, version: str, action: str) -> Handlers:
        if action not in self._model_routes:
            raise _no_path()
        method, handler = self._model_routes[action]
        return {method: lambda exchange: handler(exchange, name, version)}

    async def _of_model(self, name: str, handler: Handler, exchange: Exchange) -> None:
        """Calls a handler if the model exists; otherwise raises `NotFound`."""
        self._versions.catalogue().answering(name)
        await handler(exchange)

    async def _ready(self, exchange: Exchange) -> None:
        self._readiness.require()
        await _show({"ready": True}, exchange)

    async def _model_ready(self, exchange: Exchange, name: str, version: str) -> None:
        await self._versions.find(name, version, exchange.limit(self._deadline).deadline)
        await _show({"name": name, "ready": True}, exchange)

    async def _metadata(self, exchange: Exchange, name: str, version: str) -> None:
        served = await self._versions.find(name, version, exchange.limit(self._deadline).deadline)
        versions = self._versions.catalogue().answering(name)
        await _show(self._versions.interface(served).metadata(name, versions), exchange)

    async def _config(self, exchange: Exchange, name: str, version: str) -> None:
        served = await self._versions.find(name, version, exchange.limit(self._deadline).deadline)
        await _show(self._versions.interface(served).config(name, served), exchange)

    async def _index(self, exchange: Exchange) -> None:
        context = exchange.limit(self._deadline)
        body = await exchange.body(self._turns)
        size = len(body) / SMALL_BODY
        only_ready = await self._turns.timed("decode", size, context, _only_ready, body)
        catalogue = self._versions.catalogue()
        entries = [
            _index_entry(name, entry.version, entry.reason if entry.state == "refused" else None)
            for name, versions in sorted(catalogue.versions.items())
            for entry in versions
        ]
        entries += [_index_entry(e.name, e.lineage.version) for e in catalogue.entries if e.alias_of]
        shown = [e for e in entries if e["state"] == "READY" or not only_ready]
        await _show(shown, exchange)

    async def _all_statistics(self, exchange: Exchange) -> None:
        catalogue = self._versions.catalogue()
        everything = [(m, number) for m in sorted(catalogue.versions) for number in catalogue.answering(m)]
        await self._show_statistics(exchange, everything)

    async def _model_statistics(self, exchange: Exchange, name: str, version: str) -> None:
        catalogue = self._versions.catalogue()
        numbers = catalogue.answering(name)
        if version:
            found = catalogue.version(name, version)
            numbers = [found.version if isinstance(found, Served) else found.number]
        versions = [(catalogue.model(name), number) for number in numbers]
        await self._show_statistics(exchange, versions, name)

    async def _show_statistics(
        self, exchange: Exchange, versions: list[tuple[str, str]], name: str | None = None
    ) -> None:
        """Sends the counts of registered models' versions, under the requested name if there is one."""
        counted = await asyncio.to_thread(self._statistics, *versions)
        shown = [
            rendered(name or model, number, counts)
            for (model, number), counts in zip(versions, counted, strict=True)
        ]
        await _show({"model_stats": shown}, exchange)


def _only_ready(body: Body) -> bool:
    """Returns True if a request for the index asks only for loaded models."""
    if not body:
        return False
    require_few_values(body)
    return member(json_object(body), "ready", bool, False)


def _index_entry(name: str, version: str, refusal: str | None = None) -> dict[str, str]:
    state = "READY" if refusal is None else "UNAVAILABLE"
    return {"name": name, "version": version, "state": state, "reason": refusal or ""}


async def _show(shown: Any, exchange: Exchange) -> None:
    await exchange.answer(200, orjson.dumps(shown), may_shrink=False)


async def _forbid(message: str, _exchange: Exchange) -> None:
    raise Problem(403, "forbidden", message)


def _no_path() -> Problem:
    return Problem(404, "not_found", "nothing answers at this path")
