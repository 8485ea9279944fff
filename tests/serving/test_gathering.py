"""Requests whose texts one model answers together: who joins, who fails, who is dropped."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from contexts import due_in, leaving
from tiny_zoo import write_copier

from serving.engine import Engine, LoadedModel
from serving.gathering import TOGETHER, Gathering
from serving.timing import Timing
from serving.turns import ClientLeft, DeadlineExceeded, Turns
from zoo.cpu_cores import cpu_cores
from zoo.tasks import Arrays
from zoo.tasks.sequence_to_sequence import SequenceToSequence, Transformation, TransformTextRequest

SOON = 20.0
LANE = "texts"


class Watched:
    """A model's graphs, which note how many texts they read at once, and wait and fail as they are told."""

    def __init__(self, model: LoadedModel) -> None:
        self.graph = model.graph
        self.read: list[int] = []
        self.poison: int | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, inputs: Arrays) -> Arrays:
        if inputs.keys() == {"source"}:
            self.read.append(len(inputs["source"]))
            assert self.goes_on.wait(SOON)
            if self.poison in inputs["source"].shape:
                raise RuntimeError("poisoned")
        return self.graph(inputs)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    engine = Engine("cpu", threads=1, queue=16, generations=16)
    yield engine.load(write_copier(tmp_path_factory.mktemp("made")).directory)
    engine.close()


@pytest.fixture
def watched(model: LoadedModel) -> Watched:
    return Watched(model)


@pytest.fixture
def gathering(watched: Watched) -> Iterator[Gathering]:
    turns = Turns(threads=1, places=1)
    yield Gathering(watched, turns, LANE, groups=1, queue=16)
    turns.close()


def asked(model: LoadedModel, *texts: str, beams: int = 1, most: int | None = None) -> Transformation:
    task = model.bundle.task
    assert isinstance(task, SequenceToSequence)
    request = TransformTextRequest(model="m", text=list(texts), beam_size=beams, max_tokens=most)
    return task.generate(model.graph, request)


def answers(model: LoadedModel, transformation: Transformation) -> list[str]:
    task = model.bundle.task
    assert isinstance(task, SequenceToSequence)
    return [task.text(row) for row in transformation.outputs["tokens"]]


async def begun(
    gathering: Gathering, watched: Watched, first: Transformation, timing: Timing | None = None
) -> "asyncio.Task[None]":
    """The first request, whose texts are being read, and go on being so until `watched.goes_on`."""
    watched.goes_on.clear()
    task = asyncio.create_task(gathering.finish(first, due_in(SOON, timing)))
    while not watched.read:
        await asyncio.sleep(0.001)
    return task


def test_what_waits_is_answered_together_and_as_alone(
    model: LoadedModel, watched: Watched, gathering: Gathering
) -> None:
    parts = [
        asked(model, "one"),
        asked(model, "seven eight nine", "six"),
        asked(model, ""),
        asked(model, "four five", beams=3),
        asked(model, "two"),
    ]
    alone = [asked(model, *texts, beams=part.beams) for texts, part in zip(TEXTS, parts, strict=True)]
    timings = [Timing() for _ in parts]

    async def scenario() -> None:
        first = await begun(gathering, watched, parts[0], timings[0])
        others = [
            asyncio.create_task(gathering.finish(part, due_in(SOON, timing)))
            for part, timing in zip(parts[1:], timings[1:], strict=True)
        ]
        await asyncio.sleep(0)
        watched.goes_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(scenario())
    assert watched.read == [1, 3, 1], "of the others, those with one beam together, but for the empty text"
    for part, single in zip(parts, alone, strict=True):
        single.finish()
        assert answers(model, part) == answers(model, single)
        assert part.outputs["scores"] == pytest.approx(single.outputs["scores"], abs=1e-5)
    assert all(timing.queue > 0 and timing.compute > 0 for timing in timings)
    assert [bool(timing.batches) for timing in timings] == [True, True, False, True, False], "counted once"


TEXTS = (["one"], ["seven eight nine", "six"], [""], ["four five"], ["two"])


def test_many_texts_are_no_one_elses_wait(model: LoadedModel, watched: Watched, gathering: Gathering) -> None:
    async def scenario() -> None:
        parts = [asked(model, "one"), asked(model, *["six"] * TOGETHER), asked(model, "one")]
        first = await begun(gathering, watched, parts[0])
        others = [asyncio.create_task(gathering.finish(part, due_in(SOON))) for part in parts[1:]]
        await asyncio.sleep(0)
        watched.goes_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(scenario())
    assert watched.read == [1, TOGETHER, 1]


def test_texts_of_one_limit_are_answered_together(
    model: LoadedModel, watched: Watched, gathering: Gathering
) -> None:
    parts = [
        asked(model, "one"),
        asked(model, "seven eight nine", most=2),
        asked(model, "seven eight nine"),
        asked(model, "six five four", most=2),
    ]

    async def scenario() -> None:
        first = await begun(gathering, watched, parts[0])
        others = [asyncio.create_task(gathering.finish(part, due_in(SOON))) for part in parts[1:]]
        await asyncio.sleep(0)
        watched.goes_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(scenario())
    assert watched.read == [1, 2, 1]
    assert answers(model, parts[2]) == ["seven eight nine"]
    for part, whole in zip((parts[1], parts[3]), ("seven eight nine", "six five four"), strict=True):
        (cut,) = answers(model, part)
        assert whole.startswith(cut)
        assert len(cut) < len(whole)


def test_one_that_fails_fails_alone(model: LoadedModel, watched: Watched, gathering: Gathering) -> None:
    good, bad = asked(model, "six"), asked(model, "seven eight nine")
    watched.poison = bad.inputs["source"].shape[1]

    async def scenario() -> list[BaseException | None]:
        first = await begun(gathering, watched, asked(model, "one"))
        others = [asyncio.create_task(gathering.finish(part, due_in(SOON))) for part in (good, bad)]
        await asyncio.sleep(0)
        watched.goes_on.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    _, of_good, of_bad = asyncio.run(scenario())
    assert of_good is None
    assert answers(model, good) == ["six"]
    assert isinstance(of_bad, RuntimeError)


def test_nobody_waits(model: LoadedModel, watched: Watched, gathering: Gathering) -> None:
    """What is late or left while it waits is never read, and what nobody waits for is not read on."""

    async def leaves() -> None:
        return

    async def scenario() -> None:
        first = await begun(gathering, watched, asked(model, "one"))
        with pytest.raises(DeadlineExceeded):
            await gathering.finish(asked(model, "six"), due_in(0.05))
        with pytest.raises(ClientLeft):
            await gathering.finish(asked(model, "six"), due_in(SOON, receive=leaving(leaves)))
        first.cancel()
        watched.goes_on.set()
        last = asked(model, "two")
        await gathering.finish(last, due_in(SOON))
        assert answers(model, last) == ["two"]

    asyncio.run(scenario())
    assert watched.read == [1, 1]


def test_the_engine_gathers(tmp_path: Path) -> None:
    """Eight requests at once: those for which there is no thread are answered together."""
    engine = Engine("cpu", threads=1, queue=16, generations=16)
    model = engine.load(write_copier(tmp_path).directory)
    texts = ("one", "two", "six", "four five", "three", "seven", "eight nine", "nine")
    parts = [asked(model, text) for text in texts]
    timings = [Timing(model="m") for _ in parts]

    async def answer(part: Transformation, timing: Timing) -> None:
        async for _ in engine.pieces(part, due_in(SOON, timing), model):
            pass

    async def scenario() -> None:
        await asyncio.gather(*(answer(part, timing) for part, timing in zip(parts, timings, strict=True)))

    asyncio.run(scenario())
    engine.close()
    assert [answers(model, part) for part in parts] == [[text] for text in texts]
    assert max(size for timing in timings for size in timing.batches) == max(1, 8 - cpu_cores())
