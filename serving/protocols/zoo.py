"""The zoo's own dialect: one typed endpoint per operation, with flat JSON objects or forms as requests."""

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import orjson

from serving.catalogue import Catalogue, Served
from serving.child_process import Ask, ChildProcesses
from serving.context import HoldsUp, RequestContext
from serving.engine import numbers_in
from serving.event_stream import DONE, EventStream
from serving.exchange import JSON, SMALL_BODY, Exchange
from serving.inference import Inference
from serving.json_size import MAX_VALUES, SMALL_TEXT, reserve_parsed
from serving.measurements import MEDIA_TYPE
from serving.memory import Body
from serving.openapi import bentoml_schema
from serving.problem import Problem, let_go, not_ready, problem_of
from serving.protocols.zoo_request import (
    MULTIPART,
    parse_form,
    parse_json,
    read_large_json,
    read_request,
    require_holdable,
    wrong_endpoint,
)
from serving.readiness import Readiness
from serving.routes import Handler, Routes
from serving.turns import ClientLeft, Turns
from zoo.reservation import Reserving
from zoo.tasks import OPERATIONS, Arrays, Operation, Task
from zoo.tasks.base import Generation, Request
from zoo.tasks.operation import PNG

FORM_COPIES = 2  # copies of a form's parts in memory while it is parsed
SMALL = 8192  # numbers in and out of a graph whose answer is rendered in about 1 ms

ONE_MODEL = "/models/"  # followed by the model's name

Read = Callable[[Ask], tuple[Request, Arrays]]
"""Reads one body; returns the request and its graph's inputs (see `read_request`)."""


@dataclass(frozen=True)
class Prepared:
    """A valid request, the version that answers it, and the graph's inputs or a generation of many runs."""

    request: Request
    served: Served
    begun: Arrays | Generation


class ZooProtocol:
    """Answers each exchange at a path of the zoo's own API, and 404 at any other path."""

    def __init__(
        self,
        inference: Inference,
        turns: Turns,
        children: ChildProcesses,
        catalogue: Callable[[], Catalogue | None],
        readiness: Readiness,
        metrics: Callable[[], bytes],
        document: Callable[[Catalogue | None], bytes],
        deadline: float,
    ) -> None:
        """`catalogue` returns the current snapshot, `metrics` the page of `/metrics`.

        `document` renders the OpenAPI document of a snapshot. `deadline` is the maximum duration of a
        request, in seconds.
        """
        self._inference = inference
        self._turns = turns
        self._children = children
        self._catalogue = catalogue
        self._readiness = readiness
        self._metrics = metrics
        self._document = document
        self._deadline = deadline
        paths: dict[str, tuple[str, Handler]] = {
            "/models": ("GET", self._list_models),
            "/livez": ("GET", self._live),
            "/readyz": ("GET", self._ready),
            "/metrics": ("GET", self._scrape),
            "/docs.json": ("GET", self._openapi),
            "/schema.json": ("GET", self._bentoml_schema),
        }
        for operation in OPERATIONS:
            paths[operation.endpoint] = ("POST", partial(self._predict, operation))
        self._routes = Routes(paths, ONE_MODEL, self._describe_model)

    def handler(self, path: str, method: str) -> Handler:
        """Returns the handler of a path and method; raises `Problem` 404 or 405 if there is none."""
        return self._routes.handler(path, method)

    async def __call__(self, exchange: Exchange) -> None:
        """Answers an exchange; errors become error responses."""
        try:
            await self.handler(exchange.path, exchange.method)(exchange)
        except ClientLeft as error:  # nobody is left to answer
            let_go(error)
        except Exception as error:
            await exchange.refuse(problem_of(error))

    async def _predict(self, operation: Operation, exchange: Exchange) -> None:
        catalogue = self._snapshot()
        context = exchange.limit(self._deadline)
        media_type = exchange.media_type
        files = operation.request_type.files
        if media_type != JSON and not (media_type == MULTIPART and files):
            accepted = "application/json" + (" and multipart/form-data" if files else "")
            raise Problem(415, "unsupported_media_type", f"this path takes {accepted}")
        body = await exchange.body(self._turns)
        read: Read
        if media_type == JSON and len(body) <= SMALL_TEXT:
            read = partial(read_request, partial(parse_json, body), operation)
        elif media_type == JSON:
            read = partial(self._read_large_json, context, operation, body)
        else:
            context.reserve(FORM_COPIES * len(body))
            read = partial(read_request, partial(parse_form, exchange.scope["headers"], body), operation)

        # Tokenizing a text takes far longer than parsing it: 25 ms for 16 KB.
        size = len(body) / SMALL_BODY if operation.generate is None else math.inf
        work = self._turns.timed
        prepared = await work("decode", size, context, self._prepare, read, operation, catalogue, context)
        if isinstance(prepared.begun, Generation):
            await self._write(operation, prepared, prepared.begun, exchange)
            return
        inputs, served = prepared.begun, prepared.served
        outputs = await self._inference.predict(context, served, inputs, own=operation.own)
        size = (numbers_in(inputs) + numbers_in(outputs)) / SMALL
        draw = operation.picture
        if draw is not None and exchange.preferred(operation.media_types) == PNG:
            request = prepared.request
            picture = await work("encode", size, context, draw, served.task, request, inputs, outputs)
            await exchange.answer(200, picture, PNG.encode(), served.lineage_headers)
        else:
            answer = await work("encode", size, context, _answer, operation, prepared, outputs)
            await exchange.answer(200, answer)

    def _prepare(
        self, read: Read, operation: Operation, catalogue: Catalogue, context: RequestContext
    ) -> Prepared:
        served: Served

        def ask(what: str, name: str) -> Task | None:
            nonlocal served
            served = catalogue.find(name)
            # A refused request is counted for the model that it names.
            context.timing.model, context.timing.version = served.manifest.model, served.version
            if what == "assign":
                if type(served.task) is not operation.task_type:
                    raise wrong_endpoint(name, served.task)
                served = self._inference.assign(context, served)
                if operation.generate is not None:
                    return None  # the task is large, and not needed to read the request
            return served.task

        with Reserving(context.reserve_decoded):
            request, inputs = read(ask)
            begun: Arrays | Generation = inputs
            if operation.generate is not None:
                run = context.timing.counted(served.loaded.graph)
                begun = operation.generate(served.task, run, request)
        return Prepared(request, served, begun)

    def _read_large_json(
        self, context: RequestContext, operation: Operation, body: Body, ask: Ask
    ) -> tuple[Request, Arrays]:
        size = reserve_parsed(context, body)
        require_holdable(size, operation)
        if size.values <= MAX_VALUES:
            return read_request(partial(parse_json, body), operation, ask)
        if context.inline:
            raise HoldsUp
        deadline, endpoint = context.deadline, operation.endpoint
        return self._children.call(deadline, read_large_json, body, endpoint, answer=ask)

    async def _write(
        self, operation: Operation, prepared: Prepared, generation: Generation, exchange: Exchange
    ) -> None:
        """Sends the text of a generation, as events or as a whole; stops it if the client leaves."""
        context, served, streamed = exchange.context, prepared.served, prepared.request.streamed
        events = EventStream(exchange, served.lineage_headers)
        try:
            async with aclosing(self._inference.generate(context, served, generation)) as pieces:
                async for piece in pieces:
                    if streamed and piece:
                        await events.send(orjson.dumps({"text": piece}))
            decode = partial(operation.decode, served.task, prepared.request)
            answer = context.timing.measured("encode", partial(decode, generation.outputs))
            if streamed:  # the text was sent already; the other fields follow
                await events.send(orjson.dumps({**answer, "text": ""}))
                await events.send(DONE, more=False)
            else:
                await exchange.answer(200, orjson.dumps(answer | {"lineage": served.lineage_json}))
        except Exception as error:
            if not events.begun or isinstance(error, ClientLeft):
                raise
            problem = problem_of(error)
            exchange.status = problem.status  # the client sees it only in the event
            refusal = {"text": "", "error": problem.message, "code": problem.code}
            await events.send(orjson.dumps(refusal), more=False)

    async def _list_models(self, exchange: Exchange) -> None:
        await exchange.answer(200, self._snapshot().list_json)

    async def _describe_model(self, exchange: Exchange) -> None:
        name = exchange.path.removeprefix(ONE_MODEL)
        # In a thread, because computing the drift of many rows takes milliseconds.
        await exchange.answer(200, await asyncio.to_thread(self._snapshot().details_json, name))

    async def _live(self, exchange: Exchange) -> None:
        await exchange.answer(200, b'{"status":"alive"}')

    async def _ready(self, exchange: Exchange) -> None:
        self._readiness.require()
        await exchange.answer(200, b'{"status":"ready"}')

    async def _scrape(self, exchange: Exchange) -> None:
        # Takes milliseconds. Not in the engine's thread, whose queue may be full just when metrics matter.
        page = await asyncio.to_thread(self._metrics)
        await exchange.answer(200, page, MEDIA_TYPE)

    async def _openapi(self, exchange: Exchange) -> None:
        # In a thread, because the first call takes 0.1 s.
        document = await asyncio.to_thread(self._document, self._catalogue())
        await exchange.answer(200, document)

    async def _bentoml_schema(self, exchange: Exchange) -> None:
        await exchange.answer(200, bentoml_schema())

    def _snapshot(self) -> Catalogue:
        catalogue = self._catalogue()
        if catalogue is None:
            raise not_ready()
        return catalogue


def _answer(operation: Operation, prepared: Prepared, outputs: Arrays) -> bytes:
    answer = operation.decode(prepared.served.task, prepared.request, outputs)
    answer["lineage"] = prepared.served.lineage_json
    return orjson.dumps(answer)
