"""Inference by the Open Inference Protocol: a graph's own tensors, or texts of the kinds that write them."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import numpy as np
import orjson

from serving.catalogue import Served
from serving.contest import answering
from serving.engine import Engine
from serving.event_stream import EventStream
from serving.exchange import JSON, SMALL_BODY, TENSORS, Exchange
from serving.protocols.v2.answer import answer, head
from serving.protocols.v2.media_type import require_media_type, require_object
from serving.protocols.v2.model import TEXT_INPUT, TEXT_OUTPUT, Interface
from serving.protocols.v2.problem import v2_problem_of
from serving.protocols.v2.request import InferenceRequest, json_length, member, parse
from serving.protocols.v2.text import parse_generate, requests_for, texts_of
from serving.protocols.v2.versions import Versions
from serving.timing import Timing
from serving.turns import ClientLeft
from zoo.errors import InvalidInput
from zoo.tasks import Arrays
from zoo.tasks.base import Generation, Request, Run

Tell = Callable[[str], Awaitable[None]]

SMALL = 8192  # numbers that the event loop writes as JSON in about a millisecond
SMALL_BINARY = 1 << 20  # bytes of tensors that need no more than a look, as long as that


class Inference:
    """Answers `infer`, `generate` and `generate_stream`."""

    def __init__(self, engine: Engine, versions: Versions, deadline: float) -> None:
        """`deadline` is the longest in seconds."""
        self._engine = engine
        self._versions = versions
        self._deadline = deadline

    async def infer(self, exchange: Exchange, name: str, version: str) -> None:
        """Tensors to tensors."""
        require_media_type(exchange, JSON, TENSORS)
        deadline = exchange.deadline(self._deadline)
        served, body = await self._found(exchange, name, version, deadline)
        interface = self._versions.interface(served)
        length = json_length(body, exchange.headers.get(b"inference-header-content-length"))
        small = length <= SMALL_BODY and len(body) <= SMALL_BINARY
        work, timing = partial(parse, body, length, interface), exchange.timing
        request = await self._engine.timed("decode", work, small, deadline, timing)
        deadline = self._deadline_of(exchange, request.parameters)
        if interface.writes:
            timing.rows = len(request.inputs[TEXT_INPUT])
            arrays = await self._written(exchange, served, request, deadline)
        else:
            arrays = await self._run(served, interface, request.inputs, timing, deadline)
            if exchange.contest is not None:
                exchange.contest.computed(request.inputs, arrays)
        copied = all(output.binary and not output.classes for output in request.outputs)
        small = copied or sum(array.size for array in arrays.values()) <= SMALL
        render = partial(answer, name, served, interface, request, arrays)
        await exchange.answer(200, *await self._engine.timed("encode", render, small, deadline, timing))

    async def generate(self, exchange: Exchange, name: str, version: str) -> None:
        """A text to a text."""
        served, request, deadline = await self._asked(exchange, name, version, streamed=False)
        generation = await self._begun(served, request, exchange.timing, deadline)
        await self._write(exchange, served, generation, deadline, _tell_nobody)
        (text,) = texts_of(served.task.decode(request, generation.outputs))
        fields = {**head(name, served), TEXT_OUTPUT: text, "parameters": served.lineage_json}
        await exchange.answer(200, orjson.dumps(fields))

    async def generate_stream(self, exchange: Exchange, name: str, version: str) -> None:
        """A text to the pieces of another, each an event as soon as it is written."""
        served, request, deadline = await self._asked(exchange, name, version, streamed=True)
        generation = await self._begun(served, request, exchange.timing, deadline)
        events = EventStream(exchange, served.lineage_headers)
        sent = 0  # characters

        async def tell(piece: str) -> None:
            nonlocal sent
            sent += len(piece)
            if piece:
                await events.send(orjson.dumps({**head(name, served), TEXT_OUTPUT: piece}))

        try:
            await self._write(exchange, served, generation, deadline, tell)
            (text,) = texts_of(served.task.decode(request, generation.outputs))
            rest = {**head(name, served), TEXT_OUTPUT: text[sent:]}
            await events.send(orjson.dumps(rest), more=False)
        except Exception as error:
            if not events.begun or isinstance(error, ClientLeft):
                raise
            await events.send(orjson.dumps({"error": v2_problem_of(error).message}), more=False)

    async def _found(
        self, exchange: Exchange, name: str, version: str, deadline: float
    ) -> tuple[Served, bytes]:
        """The version that answers, and the body; a model's name may be answered by its challenger."""
        served = await self._versions.find(name, version, deadline)
        exchange.timing.model, exchange.timing.version = served.manifest.model, served.version
        body = await exchange.body(self._engine, deadline)
        require_object(exchange, body)
        return (served if version else answering(exchange, served, body)), body

    async def _run(
        self, served: Served, interface: Interface, inputs: Arrays, timing: Timing, deadline: float
    ) -> Arrays:
        rows = len(next(iter(inputs.values())))
        # Longer than what the version was timed by: not to be run on the event loop.
        long = sum(array.size for array in inputs.values()) > rows * interface.usual_row
        outputs = await self._engine.run(served.loaded, inputs, deadline, timing, inline=not long)
        served.loaded.asked.add(inputs)
        return outputs

    async def _written(
        self, exchange: Exchange, served: Served, request: InferenceRequest, deadline: float
    ) -> Arrays:
        """What is written for each text."""
        asked = requests_for(served.task, request.inputs[TEXT_INPUT].tolist(), request.parameters)
        texts: list[str] = []
        for one in asked:
            generation = await self._begun(served, one, exchange.timing, deadline)
            await self._write(exchange, served, generation, deadline, _tell_nobody)
            texts += texts_of(served.task.decode(one, generation.outputs))
        return {TEXT_OUTPUT: np.array(texts, object)}

    async def _asked(
        self, exchange: Exchange, name: str, version: str, streamed: bool
    ) -> tuple[Served, Request, float]:
        """The version that is to write, what it is asked, and until when."""
        require_media_type(exchange, JSON)
        deadline = exchange.deadline(self._deadline)
        served, body = await self._found(exchange, name, version, deadline)
        _writing(served)
        read = partial(parse_generate, body, streamed)
        small = len(body) <= SMALL_BODY
        text, parameters = await self._engine.timed("decode", read, small, deadline, exchange.timing)
        (request,) = requests_for(served.task, [text], parameters)
        exchange.timing.rows = 1
        return served, request, self._deadline_of(exchange, parameters)

    async def _begun(self, served: Served, request: Request, timing: Timing, deadline: float) -> Generation:
        """The answer at its beginning; to make tokens of a text takes longer than the event loop has."""
        begin = partial(_writing(served), timing.counted(served.loaded.graph), request)
        generation = await self._engine.timed("decode", begin, False, deadline, timing)
        served.loaded.asked.add(generation.inputs)
        return generation

    async def _write(
        self, exchange: Exchange, served: Served, generation: Generation, deadline: float, tell: Tell
    ) -> None:
        """Writes to the end, and tells of each piece; ended at once where the client leaves."""
        writing = self._engine.pieces(generation, deadline, exchange.timing, served.loaded)
        async with aclosing(writing) as pieces:
            async for piece in pieces:
                await tell(piece)

    def _deadline_of(self, exchange: Exchange, parameters: dict[str, Any]) -> float:
        """The deadline, where `timeout` asks for less in microseconds; 0 asks for nothing."""
        microseconds = member(parameters, "timeout", int, 0)
        if microseconds < 0:
            raise InvalidInput("timeout: expected microseconds")
        return exchange.deadline(min(self._deadline, microseconds / 1e6 or self._deadline))


def _writing(served: Served) -> Callable[[Run, Request], Generation]:
    """What begins the answers of a model that writes; `InvalidInput` of one that does not."""
    generate: Callable[[Run, Request], Generation] | None = served.task.generate
    if generate is None:
        raise InvalidInput("this model writes no texts: POST its tensors to infer")
    return generate


async def _tell_nobody(piece: str) -> None:
    """The answer is sent as a whole."""
