"""Completions: the texts of a request are generated concurrently, and sent as one body or as events."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import cache, partial

from serving.catalogue import Catalogue
from serving.child_process import ChildProcesses
from serving.context import RequestContext
from serving.event_stream import DONE, EventStream
from serving.exchange import JSON, Exchange
from serving.inference import Inference
from serving.json_size import MAX_VALUES, reserve_parsed
from serving.memory import Body
from serving.problem import Problem, let_go, problem_json
from serving.protocols.openai.answer import Answer, ChatAnswer, CompletionAnswer, Json
from serving.protocols.openai.choice import Choice
from serving.protocols.openai.grammar import SCHEMA_PLACE
from serving.protocols.openai.logprobs import ENTRIES_PER_MILLISECOND, ENTRY_BYTES, count_entries
from serving.protocols.openai.preparation import Prepared, prepare
from serving.protocols.openai.problem import blaming, openai_problem_of
from serving.protocols.openai.request import ChatRequest, CompletionRequest, parse, require_holdable
from serving.protocols.openai.schema_trials import SchemaTrials, Untried
from serving.turns import ClientLeft, DeadlineExceeded, Turns
from zoo.tasks.writing import Noted

Tell = Callable[[Choice, str, bool], Awaitable[None]]
"""Receives a choice, a piece of its text, and True if the text has ended."""


class OpenAIInference:
    """Answers `/v1/completions` and `/v1/chat/completions`."""

    def __init__(
        self,
        inference: Inference,
        turns: Turns,
        children: ChildProcesses,
        catalogue: Callable[[], Catalogue],
        deadline: float,
        generations: int,
    ) -> None:
        """`children` parse large bodies; `deadline` is the maximum duration of a request, in seconds.

        `generations` is the maximum number of texts that one request may ask for.
        """
        self._inference = inference
        self._turns = turns
        self._children = children
        self._catalogue = catalogue
        self._deadline = deadline
        self._generations = generations
        self._trials = SchemaTrials()

    def close(self) -> None:
        """Stops the process that compiles schemas."""
        self._trials.close()

    async def complete(self, exchange: Exchange) -> None:
        """Answers `/v1/completions`: continues prompts."""
        await self._answer(exchange, CompletionRequest, CompletionAnswer)

    async def chat(self, exchange: Exchange) -> None:
        """Answers `/v1/chat/completions`: writes the next message of a conversation."""
        await self._answer(exchange, ChatRequest, ChatAnswer)

    async def _answer(
        self,
        exchange: Exchange,
        kind: type[CompletionRequest] | type[ChatRequest],
        form: type[Answer],
    ) -> None:
        if exchange.media_type != JSON:
            raise Problem(415, "unsupported_media_type", "this path takes application/json")
        catalogue = self._catalogue()
        context = exchange.limit(self._deadline)
        body = await exchange.body(self._turns)
        read: Callable[[], CompletionRequest | ChatRequest] = cache(partial(self._parse, context, body, kind))
        prepared = None
        while prepared is None:
            try:
                prepared = await self._prepared(read, catalogue, context)
            except Untried as untried:  # repeats if thousands of other schemas evicted this one meanwhile
                with blaming(SCHEMA_PLACE):
                    await self._trials.try_out(untried.schema, context)
        answer = form(prepared.request.model, prepared.served, prepared.words)
        if prepared.request.stream:
            await self._stream(exchange, prepared, answer)
        else:
            await self._tell_whole(exchange, prepared, answer)

    async def _prepared(
        self,
        read: Callable[[], CompletionRequest | ChatRequest],
        catalogue: Catalogue,
        context: RequestContext,
    ) -> Prepared:
        work = partial(prepare, read, catalogue, self._inference, context, self._generations, self._trials)
        # Tokenizing a text takes far longer than parsing it: 25 ms for 16 KB.
        return await self._turns.timed("decode", math.inf, context, work)

    def _parse(
        self, context: RequestContext, body: Body, kind: type[CompletionRequest] | type[ChatRequest]
    ) -> CompletionRequest | ChatRequest:
        size = reserve_parsed(context, body)
        require_holdable(size)
        if size.values <= MAX_VALUES:
            return parse(body, kind)
        request: CompletionRequest | ChatRequest = self._children.call(context.deadline, parse, body, kind)
        return request

    async def _tell_whole(self, exchange: Exchange, prepared: Prepared, answer: Answer) -> None:
        texts = [""] * len(prepared.choices)
        noted: list[list[Noted]] = [[] for _ in prepared.choices]

        async def tell(choice: Choice, piece: str, _ended: bool) -> None:
            texts[choice.index] += piece
            noted[choice.index] += choice.tell(piece)

        await self._write(exchange, prepared, tell)
        told = list(zip(prepared.choices, texts, noted, strict=True))
        entries = sum(map(count_entries, noted))
        exchange.context.reserve(entries * ENTRY_BYTES)
        # A text that the deadline ended is still sent, so rendering must not be subject to the deadline.
        context = replace(exchange.context, deadline=math.inf)
        size = entries / ENTRIES_PER_MILLISECOND
        rendered = await self._turns.timed("encode", size, context, answer.entire, told, _usage(prepared))
        await exchange.answer(200, rendered)

    async def _stream(self, exchange: Exchange, prepared: Prepared, answer: Answer) -> None:
        events = EventStream(exchange, prepared.served.lineage_headers)
        options = prepared.request.stream_options
        counted = options is not None and options.include_usage
        one_at_a_time = asyncio.Lock()
        begun: set[int] = set()

        async def send(part: Json) -> None:
            event = answer.event([part], usage=None) if counted else answer.event([part])
            async with one_at_a_time:  # the first event also sends the response head
                await events.send(event)

        async def tell(choice: Choice, piece: str, ended: bool) -> None:
            if choice.index not in begun:
                begun.add(choice.index)
                if (beginning := answer.begun(choice)) is not None:
                    await send(beginning)
            noted = choice.tell(piece)
            if piece or noted:
                await send(answer.piece(choice, piece, noted))
            if ended:
                await send(answer.ended(choice))

        try:
            await self._write(exchange, prepared, tell)
            if counted:
                await events.send(answer.event([], usage=_usage(prepared)))
            await events.send(DONE, more=False)
        except Exception as error:
            if not events.begun or isinstance(error, ClientLeft):
                raise
            problem = openai_problem_of(error)
            exchange.status = problem.status  # the client sees it only in the event
            await events.send(problem_json("openai", problem, exchange.request_id), more=False)

    async def _write(self, exchange: Exchange, prepared: Prepared, tell: Tell) -> None:
        """Generates the texts to their ends concurrently; if one fails, stops all and raises its error."""
        failed: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for choice in prepared.choices:
                    group.create_task(self._write_one(choice, prepared, tell))
        except ExceptionGroup as errors:
            failed, *others = errors.exceptions
            for error in (errors, *others):
                let_go(error)
        finally:
            for choice in prepared.choices:
                exchange.timing.include(choice.context.timing)
        if failed is not None:  # raised outside its group: inside, they would form a reference cycle
            raise failed

    async def _write_one(self, choice: Choice, prepared: Prepared, tell: Tell) -> None:
        try:
            async with aclosing(self._pieces(choice, prepared)) as pieces:
                async for piece in pieces:
                    await tell(choice, piece, False)
        except DeadlineExceeded:
            # If any of the texts has a token, all texts end here as they are, even empty ones.
            if not any(other.writing.progress.tokens for other in prepared.choices):
                raise
        await tell(choice, "", True)

    def _pieces(self, choice: Choice, prepared: Prepared) -> AsyncGenerator[str, None]:
        first = choice.index % prepared.request.n == 0
        return self._inference.generate(choice.context, prepared.served, choice.writing, first=first)


def _usage(prepared: Prepared) -> Json:
    written = sum(len(choice.writing.progress.tokens) for choice in prepared.choices)
    read = prepared.read
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
