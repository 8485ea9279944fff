"""Inference by the Open Inference Protocol, with a graph's own tensors or with texts."""

import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import orjson

from serving.catalogue import Served
from serving.child_process import ChildProcesses
from serving.context import HoldsUp, RequestContext
from serving.engine import numbers_in
from serving.event_stream import EventStream
from serving.exchange import JSON, SMALL_BODY, TENSORS, Exchange
from serving.inference import Inference
from serving.json_size import MAX_VALUES, reserve_parsed
from serving.memory import Body
from serving.protocols.v2.answer import answer, head
from serving.protocols.v2.media_type import require_media_type, require_object
from serving.protocols.v2.model import TEXT_INPUT, TEXT_OUTPUT, Interface
from serving.protocols.v2.problem import v2_problem_of
from serving.protocols.v2.request import InferenceRequest, json_length, member, parse, require_holdable
from serving.protocols.v2.text import parse_generate, requests_for, texts_of
from serving.protocols.v2.versions import Versions
from serving.turns import ClientLeft, DeadlineExceeded, Turns
from zoo.errors import InvalidInput
from zoo.tasks import Arrays
from zoo.tasks.base import Generation, Request, Run

Tell = Callable[[str], Awaitable[None]]

SMALL = 8192  # numbers that are written as JSON in about 1 ms, short enough for the event loop
SMALL_BINARY = 1 << 20  # bytes of binary tensors that are checked in about as long


class V2Inference:
    """Answers `infer`, `generate` and `generate_stream`."""

    def __init__(
        self,
        inference: Inference,
        turns: Turns,
        children: ChildProcesses,
        versions: Versions,
        deadline: float,
    ) -> None:
        """`children` parse large bodies; `deadline` is the maximum duration of a request, in seconds."""
        self._inference = inference
        self._turns = turns
        self._children = children
        self._versions = versions
        self._deadline = deadline

    async def infer(self, exchange: Exchange, name: str, version: str) -> None:
        """Answers `infer`: computes output tensors from input tensors."""
        require_media_type(exchange, JSON, TENSORS)
        served, body = await self._found(exchange, name, version)
        interface, context = self._versions.interface(served), exchange.context
        length = json_length(body, exchange.headers.get(b"inference-header-content-length"))
        size = max(length / SMALL_BODY, len(body) / SMALL_BINARY)
        work = self._turns.timed
        request = await work("decode", size, context, self._parse, context, body, length, interface)
        self._shorten(exchange, request.parameters)
        if interface.writes:
            arrays = await self._written(context, served, request)
        else:
            arrays = await self._inference.predict(context, served, request.inputs)
        copied = all(output.binary and not output.classes for output in request.outputs)
        size = 0 if copied else numbers_in(arrays) / SMALL
        told = await work("encode", size, context, answer, name, served, interface, request, arrays)
        await exchange.answer(200, *told)

    async def generate(self, exchange: Exchange, name: str, version: str) -> None:
        """Answers `generate`: writes a text for a text, sent as a whole."""
        served, request = await self._asked(exchange, name, version, streamed=False)
        generation = await self._begun(exchange.context, served, request)
        await self._write(exchange.context, served, generation, _tell_nobody)
        (text,) = texts_of(served.task.decode(request, generation.outputs))
        fields = {**head(name, served), TEXT_OUTPUT: text, "parameters": served.lineage_json}
        await exchange.answer(200, orjson.dumps(fields))

    async def generate_stream(self, exchange: Exchange, name: str, version: str) -> None:
        """Answers `generate_stream`: sends each piece of the written text as an event."""
        served, request = await self._asked(exchange, name, version, streamed=True)
        generation = await self._begun(exchange.context, served, request)
        events = EventStream(exchange, served.lineage_headers)
        sent = 0  # characters

        async def tell(piece: str) -> None:
            nonlocal sent
            sent += len(piece)
            if piece:
                await events.send(orjson.dumps({**head(name, served), TEXT_OUTPUT: piece}))

        try:
            await self._write(exchange.context, served, generation, tell)
            (text,) = texts_of(served.task.decode(request, generation.outputs))
            rest = {**head(name, served), TEXT_OUTPUT: text[sent:]}
            await events.send(orjson.dumps(rest), more=False)
        except Exception as error:
            if not events.begun or isinstance(error, ClientLeft):
                raise
            await events.send(orjson.dumps({"error": v2_problem_of(error).message}), more=False)

    async def _found(self, exchange: Exchange, name: str, version: str) -> tuple[Served, Body]:
        """Returns the version that answers and the body; without a version, the challenger may be chosen."""
        context = exchange.limit(self._deadline)
        served = await self._versions.find(name, version, context.deadline)
        # Set before the body is read, so that errors of reading are counted for this version.
        context.timing.model, context.timing.version = served.manifest.model, served.version
        body = await exchange.body(self._turns)
        require_object(exchange, body)
        return self._inference.assign(context, served, exact=bool(version)), body

    def _parse(
        self, context: RequestContext, body: Body, length: int, interface: Interface
    ) -> InferenceRequest:
        size = reserve_parsed(context, memoryview(body)[:length])
        require_holdable(size, interface)
        if size.values <= MAX_VALUES:
            return parse(body, length, interface)
        if context.inline:
            raise HoldsUp
        return self._children.call(context.deadline, parse, body, length, interface)

    async def _written(self, context: RequestContext, served: Served, request: InferenceRequest) -> Arrays:
        """Returns the text that is written for each input text."""
        texts: list[str] = []
        asked = requests_for(served.task, request.inputs[TEXT_INPUT].tolist(), request.parameters)
        try:
            for one in asked:
                generation = await self._begun(context, served, one)
                await self._write(context, served, generation, _tell_nobody)
                texts += texts_of(served.task.decode(one, generation.outputs))
        except DeadlineExceeded:
            if not texts:
                raise
            texts += [""] * (len(asked) - len(texts))  # the texts that are complete are kept
        return {TEXT_OUTPUT: np.array(texts, object)}

    async def _asked(
        self, exchange: Exchange, name: str, version: str, streamed: bool
    ) -> tuple[Served, Request]:
        """Returns the version that answers and the request."""
        require_media_type(exchange, JSON)
        served, body = await self._found(exchange, name, version)
        _writing(served)
        size, context = len(body) / SMALL_BODY, exchange.context
        text, parameters = await self._turns.timed("decode", size, context, parse_generate, body, streamed)
        (request,) = requests_for(served.task, [text], parameters)
        self._shorten(exchange, parameters)
        return served, request

    async def _begun(self, context: RequestContext, served: Served, request: Request) -> Generation:
        """Begins a generation, in a thread: tokenizing would block the event loop for too long."""
        run = context.timing.counted(served.loaded.graph)
        return await self._turns.timed("decode", math.inf, context, _writing(served), run, request)

    async def _write(
        self, context: RequestContext, served: Served, generation: Generation, tell: Tell
    ) -> None:
        """Runs a generation, passing each piece to `tell`; stops at once if the client leaves."""
        async with aclosing(self._inference.generate(context, served, generation)) as pieces:
            async for piece in pieces:
                await tell(piece)

    def _shorten(self, exchange: Exchange, parameters: dict[str, Any]) -> None:
        """Shortens the deadline to the parameter `timeout`, in microseconds; 0 leaves it as it is."""
        microseconds = member(parameters, "timeout", int, 0)
        if microseconds < 0:
            raise InvalidInput("timeout: expected microseconds")
        exchange.limit(min(self._deadline, microseconds / 1e6 or self._deadline))


def _writing(served: Served) -> Callable[[Run, Request], Generation]:
    """Returns the function that begins generations; raises `InvalidInput` if the model writes no texts."""
    generate: Callable[[Run, Request], Generation] | None = served.task.generate
    if generate is None:
        raise InvalidInput("this model writes no texts: POST its tensors to infer")
    return generate


async def _tell_nobody(piece: str) -> None:
    """Ignores a piece, because the answer is sent as a whole."""
