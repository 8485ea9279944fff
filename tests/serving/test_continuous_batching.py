"""Texts that one language model writes at once: as if alone, whoever joins, leaves or fails beside them."""

import asyncio
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from contexts import due_in, leaving
from server import wait_for

from serving.context import Receive
from serving.continuous_batching import READ_AT_ONCE, Room
from serving.readers import Reader, reader_for
from serving.timing import Timing
from serving.turns import ClientLeft, DeadlineExceeded, Overloaded, Turns
from training.llama_graph import build
from zoo.decoder import Decoder
from zoo.errors import InvalidInput
from zoo.graph import Graph
from zoo.models.llama import Llama, LlamaConfig
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache
from zoo.tasks.sampling import Sampling
from zoo.tasks.text_tokenizer import byte_pair_tokenizer
from zoo.tasks.writing import Instructions, Writing

CONFIG = LlamaConfig(layers=2, width=64, heads=4, key_value_heads=2)
PLACES, SLOTS, QUEUE, SOON = 512, 3, 2, 20.0
TASK = LanguageModelling(
    tokenizer=byte_pair_tokenizer([], 256).to_str(),
    opening="abc",
    memory=KeyValueCache(layers=2, heads=2, width=16),
    places=PLACES,
)


class Watched:
    """A reader that counts its runs, and may fail or take its time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.read_tokens, self.steps, self.open_slots = 0, [], set()
        self.seconds, self.fails = 0.0, False

    def open(self) -> int:
        slot = self._reader.open()
        self.open_slots.add(slot)
        return slot

    def close(self, slot: int) -> None:
        self.open_slots.remove(slot)
        self._reader.close(slot)

    def read(self, slot: int, tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
        self.read_tokens += len(tokens)
        return self._reader.read(slot, tokens, places)

    def step(self, tokens: dict[int, int]) -> dict[int, np.ndarray]:
        if self.fails:
            raise RuntimeError("the graph fails")
        time.sleep(self.seconds)
        self.steps.append(len(tokens))
        return self._reader.step(tokens)


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    model = Llama(CONFIG, TASK.vocabulary)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    return Graph(build(CONFIG, weights, "fp32", PLACES))


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns(1, places=1)
    yield turns
    turns.close()


@pytest.fixture
def reader(graph: Graph) -> Watched:
    made = reader_for(TASK, graph, SLOTS)
    assert made is not None
    return Watched(made)


@pytest.fixture
def room(reader: Watched, turns: Turns) -> Room:
    return Room("llama", reader, SLOTS, QUEUE, turns, "llama")


def writing(prompt: str, tokens: int, graph: Graph, seed: int | None = None) -> Writing:
    sampling = Sampling(temperature=0 if seed is None else 1)
    return TASK.writing(graph, Instructions(TASK.tokens(prompt), tokens, sampling, seed))


async def whole(
    room: Room,
    text: Writing,
    seconds: float = SOON,
    timing: Timing | None = None,
    receive: Receive | None = None,
) -> str:
    context = due_in(seconds, timing, receive)
    return "".join([piece async for piece in room.pieces(text, context)])


def prompts(count: int) -> list[str]:
    """Of 1 to 200 tokens."""
    random = np.random.default_rng(1)
    return ["".join(map(chr, random.integers(97, 123, size))) for size in random.integers(1, 200, count)]


def test_texts_at_once_are_the_texts_alone(room: Room, reader: Watched, graph: Graph) -> None:
    asked = [(prompt, 10 + 7 * i, None if i % 2 else i) for i, prompt in enumerate(prompts(5))]
    alone = ["".join(writing(prompt, tokens, graph, seed)) for prompt, tokens, seed in asked]

    async def together() -> list[str]:
        texts = [writing(prompt, tokens, graph, seed) for prompt, tokens, seed in asked]
        return await asyncio.gather(*(whole(room, text) for text in texts))

    assert asyncio.run(together()) == alone
    assert max(reader.steps) == SLOTS
    wait_for(lambda: room.writing == 0)  # the last text may be told before its slot is free
    assert not reader.open_slots


def test_a_text_joins_while_another_is_written(room: Room, reader: Watched, graph: Graph) -> None:
    async def overtake() -> None:
        long = asyncio.create_task(whole(room, writing("a", 400, graph)))
        while not reader.steps:
            await asyncio.sleep(0.001)
        await whole(room, writing("bc", 5, graph))
        assert not long.done()
        await long

    reader.seconds = 0.002
    asyncio.run(overtake())


def test_who_leaves_frees_the_slot_within_a_step(room: Room, reader: Watched, graph: Graph) -> None:
    async def leave() -> int:
        pieces = room.pieces(writing("a", 500, graph), due_in(SOON))
        await anext(pieces)
        await pieces.aclose()
        steps = len(reader.steps)
        while reader.open_slots:
            await asyncio.sleep(0.001)
        return len(reader.steps) - steps

    reader.seconds = 0.005
    assert asyncio.run(leave()) <= 1


def test_a_client_that_goes_is_noticed(room: Room, reader: Watched, graph: Graph) -> None:
    async def gone() -> None:
        await asyncio.sleep(0.05)

    reader.seconds = 0.005
    with pytest.raises(ClientLeft):
        asyncio.run(whole(room, writing("a", 500, graph), receive=leaving(gone)))


def test_a_text_that_has_begun_ends_at_its_deadline_and_late_ones_never_begin(
    room: Room, reader: Watched, graph: Graph
) -> None:
    with pytest.raises(DeadlineExceeded):
        asyncio.run(whole(room, writing("a", 5, graph), seconds=-1))
    assert not reader.steps
    reader.seconds = 0.01
    text = writing("a", 500, graph)
    told = asyncio.run(whole(room, text, seconds=0.2))
    written = text.progress.tokens
    assert 1 < len(written) < 25
    assert text.progress.ended
    assert not text.progress.stopped
    assert told == TASK.text(np.array(written)) == "".join(writing("a", len(written), graph))

    async def wait_for_a_slot() -> None:
        writers = [asyncio.create_task(whole(room, writing("a", 500, graph))) for _ in range(SLOTS)]
        while len(reader.open_slots) < SLOTS:
            await asyncio.sleep(0.001)
        with pytest.raises(DeadlineExceeded):
            await whole(room, writing("b", 5, graph), seconds=0.1)
        for writer in writers:
            writer.cancel()

    asyncio.run(wait_for_a_slot())


def test_the_queue_is_bounded(room: Room, reader: Watched, graph: Graph) -> None:
    async def crowd() -> Sequence[str | BaseException]:
        texts = [writing("a", 20, graph) for _ in range(SLOTS + QUEUE + 2)]
        return await asyncio.gather(*(whole(room, text) for text in texts), return_exceptions=True)

    reader.seconds = 0.002
    answers = asyncio.run(crowd())
    assert [type(answer) for answer in answers] == [str] * (SLOTS + QUEUE) + [Overloaded] * 2
    assert len(set(answers[: SLOTS + QUEUE])) == 1


def test_a_failure_ends_the_texts_of_the_run_and_no_others(room: Room, reader: Watched, graph: Graph) -> None:
    reader.fails = True
    with pytest.raises(RuntimeError, match="the graph fails"):
        asyncio.run(whole(room, writing("ab", 20, graph)))
    reader.fails = False
    assert asyncio.run(whole(room, writing("ab", 20, graph))) == "".join(writing("ab", 20, graph))
    assert not reader.open_slots


class DeadEnd:
    """A constraint by which a text has two tokens and no third."""

    def __init__(self) -> None:
        self.written = 0

    def allowed(self) -> np.ndarray:
        if self.written == 2:
            raise InvalidInput("no token can follow")
        return np.ones(TASK.vocabulary, bool)

    def accept(self, token: int) -> bool:
        self.written += 1
        return False


def test_a_text_that_cannot_go_on_ends_alone(room: Room, reader: Watched, graph: Graph) -> None:
    asked = Instructions(TASK.tokens("ab"), 20, Sampling(temperature=0), constraint=DeadEnd())

    async def scenario() -> list[str | BaseException]:
        stuck = TASK.writing(graph, asked)
        texts = (whole(room, writing("abc", 20, graph)), whole(room, stuck))
        return await asyncio.gather(*texts, return_exceptions=True)

    text, error = asyncio.run(scenario())
    assert text == "".join(writing("abc", 20, graph))
    assert isinstance(error, InvalidInput)
    assert not reader.open_slots


def test_what_prompts_begin_with_is_read_once(graph: Graph, turns: Turns) -> None:
    made = reader_for(TASK, graph, SLOTS)
    assert made is not None
    room = Room("llama", made, SLOTS, QUEUE, turns, "llama")
    told = "x" * (2 * READ_AT_ONCE + 5)
    read = 0
    original = made.read

    def counting(slot: int, tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
        nonlocal read
        read += len(tokens)
        return original(slot, tokens, places)

    made.read = counting  # type: ignore[method-assign]
    for end, tokens in (("one", 2 * READ_AT_ONCE + 8), ("other", 10), ("one", 8)):
        read = 0
        text = asyncio.run(whole(room, writing(told + end, 30, graph)))
        assert text == "".join(writing(told + end, 30, graph))
        assert read == tokens


def test_what_it_took_is_told(room: Room, reader: Watched, graph: Graph) -> None:
    timing = Timing()
    asyncio.run(whole(room, writing("abc", 4, graph), timing=timing))
    assert timing.compute > 0
    assert timing.batches == {1: 4}


def test_a_reader_that_opens_nothing_fails_those_who_wait(
    room: Room, reader: Watched, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(reader, "open", [].pop)
        with pytest.raises(IndexError):
            asyncio.run(whole(room, writing("ab", 20, graph)))
    assert asyncio.run(whole(room, writing("ab", 20, graph))) == "".join(writing("ab", 20, graph))


def test_the_beginning_of_a_prompt_is_kept_for_its_caller_alone(turns: Turns, graph: Graph) -> None:
    reader = reader_for(TASK, graph, SLOTS)
    assert isinstance(reader, Decoder)
    read, parts = reader.read, []

    def noting(slot: int, tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
        parts.append(len(tokens))
        return read(slot, tokens, places)

    reader.read = noting  # type: ignore[method-assign]
    room = Room("llama", reader, SLOTS, QUEUE, turns, "llama")

    async def tokens_read(caller: bytes) -> int:
        context = due_in(SOON)
        context.caller = caller
        parts.clear()
        assert [piece async for piece in room.pieces(writing("ab" * READ_AT_ONCE, 1, graph), context)]
        return sum(parts)

    async def ask() -> list[int]:
        return [await tokens_read(caller) for caller in (b"one", b"another", b"one", b"", b"another", b"")]

    whole, rest = 2 * READ_AT_ONCE, READ_AT_ONCE
    assert asyncio.run(ask()) == [whole, whole, rest, whole, rest, rest]
