"""The zoo's own dialect: typed endpoints, one an operation, over flat JSON objects or forms."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import orjson

from serving import openapi
from serving.catalogue import Catalogue, Served
from serving.contest import answering
from serving.engine import Engine
from serving.event_stream import DONE, EventStream
from serving.exchange import JSON, SMALL_BODY, Exchange
from serving.measurements import MEDIA_TYPE
from serving.problem import Problem, not_ready, problem_of
from serving.protocols.zoo_request import (
    MULTIPART,
    Parse,
    form_fields,
    parse_fields,
    parse_json,
    wrong_endpoint,
)
from serving.routes import Handler, Routes
from serving.timing import Timing
from serving.turns import ClientLeft
from zoo.tasks import OPERATIONS, Arrays, Operation
from zoo.tasks.base import Generation, Request
from zoo.tasks.operation import PNG

SMALL = 8192  # numbers in and out of a graph that the event loop makes an answer of, in about a millisecond

ONE_MODEL = "/models/"  # and the model's name


@dataclass(frozen=True)
class Prepared:
    """A valid request with what answers it: the graph's inputs, or an answer that takes many runs."""

    request: Request
    served: Served
    begun: Arrays | Generation


class ZooProtocol:
    """Answers each exchange at a path of the zoo's own, and 404 at any other."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Callable[[], Catalogue | None],
        metrics: Callable[[], bytes],
        deadline: float,
        locked: bool,
    ) -> None:
        """`catalogue` gives the snapshot of the moment, `metrics` a page; `deadline` is the longest, in s.

        `locked`: the service has API keys, which the OpenAPI document says.
        """
        self._engine = engine
        self._catalogue = catalogue
        self._metrics = metrics
        self._deadline = deadline
        self._locked = locked
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

    async def __call__(self, exchange: Exchange) -> None:
        """Answers, errors included."""
        try:
            await self._routes.handler(exchange)(exchange)
        except ClientLeft:
            pass  # there is nobody to tell
        except Exception as error:
            await exchange.refuse(problem_of(error))

    async def _predict(self, operation: Operation, exchange: Exchange) -> None:
        catalogue = self._snapshot()
        deadline = exchange.deadline(self._deadline)
        media_type = exchange.media_type
        files = operation.request_type.files
        if media_type != JSON and not (media_type == MULTIPART and files):
            accepted = "application/json" + (" and multipart/form-data" if files else "")
            raise Problem(415, "unsupported_media_type", f"this path takes {accepted}")
        body = await exchange.body(self._engine, deadline)
        parse: Parse
        timing = exchange.timing
        if media_type == JSON:
            parse = partial(parse_json, body)
        else:
            begun = time.monotonic_ns()
            parse = partial(parse_fields, await form_fields(exchange.scope["headers"], body, files))
            timing.decode += time.monotonic_ns() - begun

        prepare = partial(_prepare, parse, operation, catalogue, exchange, body)
        # To make tokens of a text takes far longer than to read it: sixteen kilobytes are 25 ms.
        small = len(body) <= SMALL_BODY and operation.generate is None
        prepared = await self._engine.timed("decode", prepare, small, deadline, timing)
        if isinstance(prepared.begun, Generation):
            await self._write(operation, prepared, prepared.begun, exchange, deadline)
            return
        inputs = prepared.begun
        outputs = await self._engine.run(prepared.served.loaded, inputs, deadline, timing)
        if operation.own:
            prepared.served.loaded.asked.add(inputs)
            if exchange.contest is not None:
                exchange.contest.computed(inputs, outputs)
        size = sum(array.size for array in (*inputs.values(), *outputs.values()))
        draw = operation.picture
        if draw is not None and exchange.preferred(operation.media_types) == PNG:
            drawing = partial(draw, prepared.served.task, prepared.request, inputs, outputs)
            picture = await self._engine.timed("encode", drawing, size <= SMALL, deadline, timing)
            await exchange.answer(200, picture, PNG.encode(), prepared.served.lineage_headers)
        else:
            rendering = partial(_answer, operation, prepared, outputs)
            answer = await self._engine.timed("encode", rendering, size <= SMALL, deadline, timing)
            await exchange.answer(200, answer)

    async def _write(
        self,
        operation: Operation,
        prepared: Prepared,
        generation: Generation,
        exchange: Exchange,
        deadline: float,
    ) -> None:
        """Answers with what a generation writes, in events or as a whole; ends it where the client leaves."""
        loaded = prepared.served.loaded
        loaded.asked.add(generation.inputs)
        streamed, timing = prepared.request.streamed, exchange.timing
        events = EventStream(exchange, prepared.served.lineage_headers)
        try:
            async with aclosing(self._engine.pieces(generation, deadline, timing, loaded)) as pieces:
                async for piece in pieces:
                    if streamed and piece:
                        await events.send(orjson.dumps({"text": piece}))
            decode = partial(operation.decode, prepared.served.task, prepared.request)
            answer = timing.measured("encode", partial(decode, generation.outputs))
            if streamed:  # the text is sent, but for how it ended
                await events.send(orjson.dumps({**answer, "text": ""}))
                await events.send(DONE, more=False)
            else:
                await exchange.answer(200, orjson.dumps(answer | {"lineage": prepared.served.lineage_json}))
        except Exception as error:
            if not events.begun or isinstance(error, ClientLeft):
                raise
            problem = problem_of(error)
            exchange.status = problem.status  # which the client learns from the event alone
            refusal = {"text": "", "error": problem.message, "code": problem.code}
            await events.send(orjson.dumps(refusal), more=False)

    async def _list_models(self, exchange: Exchange) -> None:
        await exchange.answer(200, self._snapshot().list_json)

    async def _describe_model(self, exchange: Exchange) -> None:
        name = exchange.path.removeprefix(ONE_MODEL)
        # A thread, for the drift of many rows takes milliseconds.
        await exchange.answer(200, await asyncio.to_thread(self._snapshot().details_json, name))

    async def _live(self, exchange: Exchange) -> None:
        await exchange.answer(200, b'{"status":"alive"}')

    async def _ready(self, exchange: Exchange) -> None:
        self._snapshot()
        await exchange.answer(200, b'{"status":"ready"}')

    async def _scrape(self, exchange: Exchange) -> None:
        # Milliseconds; not the engine's thread, whose queue may be full just when it matters.
        page = await asyncio.to_thread(self._metrics)
        await exchange.answer(200, page, MEDIA_TYPE)

    async def _openapi(self, exchange: Exchange) -> None:
        # A thread, for it takes 0.1 s the first time.
        document = await asyncio.to_thread(openapi.document, self._catalogue(), self._locked)
        await exchange.answer(200, document)

    async def _bentoml_schema(self, exchange: Exchange) -> None:
        await exchange.answer(200, openapi.bentoml_schema())

    def _snapshot(self) -> Catalogue:
        catalogue = self._catalogue()
        if catalogue is None:
            raise not_ready()
        return catalogue


def _prepare(
    parse: Parse, operation: Operation, catalogue: Catalogue, exchange: Exchange, body: bytes
) -> Prepared:
    timing = exchange.timing
    find = partial(_find, catalogue, timing)
    request = parse(operation, find)
    served = find(request.model)
    if type(served.task) is not operation.task_type:
        raise wrong_endpoint(request.model, served.task)
    served = answering(exchange, served, body)
    if operation.generate is not None:
        texts = getattr(request, served.task.payload) if served.task.payload else None
        timing.rows = len(texts) if isinstance(texts, list) else 1
        run = timing.counted(served.loaded.graph)
        begun: Arrays | Generation = operation.generate(served.task, run, request)
    else:
        begun = operation.encode(served.task, request)
    return Prepared(request, served, begun)


def _find(catalogue: Catalogue, timing: Timing, name: str) -> Served:
    served = catalogue.find(name)
    timing.model, timing.version = served.manifest.model, served.version
    return served


def _answer(operation: Operation, prepared: Prepared, outputs: Arrays) -> bytes:
    answer = operation.decode(prepared.served.task, prepared.request, outputs)
    answer["lineage"] = prepared.served.lineage_json
    return orjson.dumps(answer)
