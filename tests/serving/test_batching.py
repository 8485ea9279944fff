"""Requests that share batches: who joins, who fails, who is dropped, and what each is told of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contexts import due_in, leaving
from server import wait_for
from tiny_zoo import write_regression

from serving.context import Receive
from serving.engine import INLINE_SECONDS, Engine, LoadedModel
from serving.settings import Settings
from serving.timing import Timing
from serving.turns import ClientLeft, DeadlineExceeded, Overloaded, Pace
from zoo.cpu_cores import cpu_cores
from zoo.tasks import Arrays

SOON = 5.0
ROW_SECONDS = 2 * INLINE_SECONDS  # not even a single row is run in place
POISON = 666.0
QUEUE = 16


class Watched:
    """A model's graph that notes the batches it computes, and fails for one value."""

    def __init__(self, model: LoadedModel) -> None:
        self.graph = model.graph
        self.batches: list[list[float]] = []

    def __call__(self, inputs: Arrays) -> Arrays:
        self.batches.append(inputs["features"][:, 0].tolist())
        if POISON in self.batches[-1]:
            raise RuntimeError("poisoned")
        return self.graph(inputs)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("cpu", threads=cpu_cores(), queue=QUEUE, generations=1)  # one thread
    yield engine
    engine.close()


@pytest.fixture
def watched(engine: Engine, tmp_path: Path) -> tuple[LoadedModel, Watched]:
    model = engine.load(write_regression(tmp_path / "made").directory)
    graph = Watched(model)
    # The pace that a busy test machine warmed up at would have requests of short deadlines refused.
    return replace(model, graph=graph, row_seconds=ROW_SECONDS, pace=Pace(0.0)), graph


@asynccontextmanager
async def busy(engine: Engine) -> AsyncIterator[None]:
    """The only thread is occupied until the block, in which requests come and wait, has ended."""
    begun, release = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        release.wait(SOON)

    occupied = asyncio.create_task(engine.turns.offload(occupy, due_in(SOON)))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    yield
    release.set()
    await occupied


def rows(*values: float) -> Arrays:
    return {"features": np.array([[value, 1] for value in values], np.float32)}


def ask(
    engine: Engine,
    model: LoadedModel,
    inputs: Arrays,
    timing: Timing | None = None,
    receive: Receive | None = None,
) -> Coroutine:
    return engine.run(model, inputs, due_in(SOON, timing, receive))


async def gathered(engine: Engine, *asked: Coroutine) -> list:
    """Results and errors of requests all of which came while the thread was busy."""
    async with busy(engine):
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_computed_together_and_answered_as_alone(
    engine: Engine, watched: tuple[LoadedModel, Watched]
) -> None:
    model, graph = watched
    timings = [Timing() for _ in range(3)]
    requests = [rows(1), rows(2, 3), rows(4)]
    asked = (ask(engine, model, inputs, timing) for inputs, timing in zip(requests, timings, strict=True))
    outputs = asyncio.run(gathered(engine, *asked))
    assert graph.batches == [[1, 2, 3, 4]]
    for inputs, output in zip(requests, outputs, strict=True):
        np.testing.assert_array_equal(output["value"], graph.graph(inputs)["value"])
    assert [timing.rows for timing in timings] == [1, 2, 1]
    assert [timing.batches for timing in timings] == [{4: 1}, {}, {}], "one run is counted once"
    assert all(timing.queue > 0 and timing.compute == timings[0].compute > 0 for timing in timings)


def test_one_that_nobody_else_came_with_does_not_wait(
    engine: Engine, watched: tuple[LoadedModel, Watched]
) -> None:
    model, graph = watched
    asyncio.run(ask(engine, model, rows(1)))
    assert graph.batches == [[1]]


def test_a_batch_is_no_larger_than_it_may_be(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    model, graph = watched
    most = model.batch_rows
    requests = [rows(*[1.0] * (most - 1)), rows(2, 2), rows(3)]
    asyncio.run(gathered(engine, *(ask(engine, model, inputs) for inputs in requests)))
    assert graph.batches == [[1.0] * (most - 1) + [3], [2, 2]]


def test_only_the_one_that_is_wrong_fails(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    model, graph = watched
    first, wrong, last = asyncio.run(gathered(engine, *(ask(engine, model, rows(v)) for v in (1, POISON, 3))))
    assert isinstance(wrong, RuntimeError)
    np.testing.assert_array_equal(first["value"], graph.graph(rows(1))["value"])
    np.testing.assert_array_equal(last["value"], graph.graph(rows(3))["value"])


def test_other_shapes_do_not_join(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    model, graph = watched
    longer = {"features": np.ones((1, 3), np.float32)}
    first, wrong, last = asyncio.run(
        gathered(engine, *(ask(engine, model, inputs) for inputs in (rows(1), longer, rows(3))))
    )
    assert graph.batches == [[1, 3], [1]]
    assert isinstance(wrong, Exception)
    assert len(first["value"]) == len(last["value"]) == 1


def test_the_late_and_the_gone_are_not_computed(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    model, graph = watched

    async def leave() -> None:
        await asyncio.sleep(0.02)

    late = engine.run(model, rows(1), due_in(0.02))
    gone = ask(engine, model, rows(2), receive=leaving(leave))

    async def scenario() -> list:
        async with busy(engine):
            tasks = [asyncio.create_task(one) for one in (late, gone, ask(engine, model, rows(3)))]
            await asyncio.wait(tasks[:2])
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(scenario())
    assert isinstance(first, DeadlineExceeded)
    assert isinstance(second, ClientLeft)
    assert len(third["value"]) == 1
    assert graph.batches == [[3]]


def test_the_place_of_one_who_left_is_free(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    model, _ = watched

    async def scenario() -> None:
        async with busy(engine):
            for _ in range(3 * QUEUE):
                with pytest.raises(DeadlineExceeded):
                    await engine.run(model, rows(1), due_in(0.001))

    asyncio.run(scenario())


def test_one_model_cannot_take_all_places(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    model, _ = watched
    other = replace(model)
    flood = (ask(engine, model, rows(1)) for _ in range(4 * QUEUE))
    *flooded, spared = asyncio.run(gathered(engine, *flood, ask(engine, other, rows(1))))
    assert sum(isinstance(outcome, Overloaded) for outcome in flooded) == 4 * QUEUE - QUEUE // 2
    assert len(spared["value"]) == 1


def test_models_take_turns_and_many_rows_give_way(
    engine: Engine, watched: tuple[LoadedModel, Watched]
) -> None:
    model, graph = watched
    many = rows(*[1.0] * (8 * model.batch_rows))
    asyncio.run(gathered(engine, ask(engine, model, many), ask(engine, replace(model), rows(2))))
    assert len(graph.batches) == 9
    assert graph.batches.index([2]) == 1


def test_what_was_computed_is_answered_although_the_queue_is_full(engine: Engine) -> None:
    async def scenario() -> list:
        async with busy(engine):
            waiting = [asyncio.create_task(engine.turns.offload(int, due_in(SOON))) for _ in range(4 * QUEUE)]
            await asyncio.sleep(0)
            encode, decode = (
                asyncio.create_task(engine.turns.timed(phase, 2, due_in(SOON), lambda: 2))
                for phase in ("encode", "decode")
            )
            await asyncio.sleep(0)
        await asyncio.gather(*waiting, return_exceptions=True)
        return await asyncio.gather(encode, decode, return_exceptions=True)

    encoded, decoded = asyncio.run(scenario())
    assert encoded == 2
    assert isinstance(decoded, Overloaded)


def test_what_waits_at_the_end_is_cancelled(engine: Engine) -> None:
    cancelled: list[bool] = []

    async def scenario() -> None:
        async with busy(engine):
            waiting = asyncio.create_task(engine.turns.offload(lambda: 1, due_in(SOON)))
            await asyncio.sleep(0)
            engine.close()
            await asyncio.wait([waiting])
            cancelled.append(waiting.cancelled())

    asyncio.run(scenario())
    assert cancelled == [True]
    wait_for(lambda: engine.turns._busy == 0)


@pytest.fixture
def quick(engine: Engine, watched: tuple[LoadedModel, Watched]) -> tuple[LoadedModel, Watched]:
    """A model so fast that it is computed on the event loop, four rows at a time."""
    model, graph = watched
    return replace(model, row_seconds=INLINE_SECONDS / 4), graph


async def at_once(*asked: Coroutine) -> list:
    """Results and errors of requests that come at the same moment."""
    return await asyncio.gather(*asked, return_exceptions=True)


def test_what_comes_at_the_same_moment_is_computed_together(
    engine: Engine, quick: tuple[LoadedModel, Watched]
) -> None:
    model, graph = quick
    timings = [Timing() for _ in range(4)]
    requests = [rows(1), rows(2, 3), rows(4, 5), rows(6)]
    asked = (ask(engine, model, inputs, timing) for inputs, timing in zip(requests, timings, strict=True))
    outputs = asyncio.run(at_once(*asked))
    assert graph.batches == [[1, 2, 3, 6], [4, 5]]
    for inputs, output in zip(requests, outputs, strict=True):
        np.testing.assert_array_equal(output["value"], graph.graph(inputs)["value"])
    assert [timing.batches for timing in timings] == [{4: 1}, {}, {2: 1}, {}], "one run is counted once"
    assert timings[0].compute == timings[1].compute == timings[3].compute > 0


def test_of_a_moment_only_the_one_that_is_wrong_fails(
    engine: Engine, quick: tuple[LoadedModel, Watched]
) -> None:
    model, graph = quick
    shorter = {"features": np.ones((1, 1), np.float32)}
    first, wrong, other, last = asyncio.run(
        at_once(*(ask(engine, model, inputs) for inputs in (rows(1), rows(POISON), shorter, rows(3))))
    )
    assert isinstance(wrong, RuntimeError)
    assert isinstance(other, Exception)
    np.testing.assert_array_equal(first["value"], graph.graph(rows(1))["value"])
    np.testing.assert_array_equal(last["value"], graph.graph(rows(3))["value"])
    assert graph.batches == [[1, POISON, 3], [1], [POISON], [3], [1]]


def test_of_a_moment_nobody_waits_for_some(engine: Engine, quick: tuple[LoadedModel, Watched]) -> None:
    model, graph = quick

    async def scenario() -> None:
        gone = asyncio.create_task(ask(engine, model, rows(1)))
        stays = asyncio.create_task(ask(engine, model, rows(2)))
        with pytest.raises(DeadlineExceeded):
            await engine.run(model, rows(3), due_in(-1))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await stays)["value"] == graph.graph(rows(2))["value"]

    asyncio.run(scenario())
    assert graph.batches in ([[2]], [[1, 2]])


def test_two_hundred_at_once_are_all_answered(tmp_path: Path) -> None:
    engine = Engine("cpu", threads=1, queue=Settings().queue, generations=1)
    model = engine.load(write_regression(tmp_path / "made").directory)
    graph = Watched(model)
    model = replace(model, graph=graph, row_seconds=ROW_SECONDS, pace=Pace(ROW_SECONDS))
    outputs = asyncio.run(at_once(*(ask(engine, model, rows(value)) for value in range(200))))
    engine.close()
    assert [output["value"].tolist() for output in outputs] == [
        graph.graph(rows(value))["value"].tolist() for value in range(200)
    ]


def test_what_could_not_be_answered_in_time_is_refused_at_once(
    engine: Engine, watched: tuple[LoadedModel, Watched]
) -> None:
    """Half a second for each row, as measured, and two seconds for the answer."""
    model, _ = watched
    slow, other = replace(model, pace=Pace(0.5)), replace(model, pace=Pace(0.001))
    coming = [engine.run(slow, rows(1), due_in(2)) for _ in range(10)]

    async def scenario() -> list:
        async with busy(engine):
            tasks = [asyncio.create_task(one) for one in (*coming, ask(engine, other, rows(2)))]
            await asyncio.sleep(0.05)
            refused = [task.exception() for task in tasks if task.done()]
        return [refused, await asyncio.gather(*tasks, return_exceptions=True)]

    refused, (*_, spared) = asyncio.run(scenario())
    assert [type(error) for error in refused] == [Overloaded] * 7
    assert all(error.retry_after >= 1 for error in refused)
    assert len(spared["value"]) == 1, "another model has turns of its own"


def test_a_wrong_expectation_does_not_last(engine: Engine, watched: tuple[LoadedModel, Watched]) -> None:
    """Nothing waits, so the request is tried, however long it was expected to take."""
    model, _ = watched
    model = replace(model, pace=Pace(1000.0))
    for _ in range(300):
        asyncio.run(engine.run(model, rows(1), due_in(1)))
    assert model.pace.seconds < 0.1
