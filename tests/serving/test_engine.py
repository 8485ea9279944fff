"""The engine by itself: places, deadlines, and bundles that do not pass."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from contexts import due_in
from tiny_zoo import image_graph, write_images, write_regression

from serving.engine import BATCH, IDENTITY, RUN_MEMORY, SLICE_SECONDS, Engine
from serving.memory import MemoryBudget
from serving.turns import DeadlineExceeded, Job, Overloaded, Turns
from zoo.bundle_files import sha256
from zoo.cpu_cores import cpu_cores
from zoo.errors import BundleError, ProviderUnavailable
from zoo.graph import Graph
from zoo.tasks import Arrays
from zoo.tasks.base import Generation

SOON = 5.0
ROW_SECONDS = (
    SLICE_SECONDS / 2 / BATCH
)  # of a model whose batches are full, and take too long to run in place


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("cpu", threads=1, queue=1, generations=2)
    yield engine
    engine.close()


def test_a_fast_model_runs_in_place_and_a_slow_one_in_a_thread(engine: Engine, tmp_path: Path) -> None:
    model = engine.load(write_regression(tmp_path / "made").directory)
    seen: list[str] = []

    class Watched:
        def __call__(self, inputs: object) -> dict[str, object]:
            seen.append(threading.current_thread().name)
            return {}

    watched = replace(model, graph=Watched())
    rows = {"features": np.zeros((2, 2), np.float32)}
    for seconds in (0.0001, 0.1):
        asyncio.run(engine.run(replace(watched, row_seconds=seconds), rows, due_in(SOON)))
    assert seen[0] == threading.main_thread().name
    assert seen[1].startswith("engine")


def test_many_rows_are_computed_a_batch_at_a_time(engine: Engine, tmp_path: Path) -> None:
    model = replace(engine.load(write_regression(tmp_path / "made").directory), row_seconds=ROW_SECONDS)
    sizes: list[int] = []

    def watched(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["features"]))
        return model.graph(inputs)

    rows = {"features": np.arange(2 * 150, dtype=np.float32).reshape(150, 2)}
    outputs = asyncio.run(engine.run(replace(model, graph=watched), rows, due_in(SOON)))
    assert sizes == [BATCH, BATCH, 150 - 2 * BATCH]
    np.testing.assert_array_equal(outputs["value"], model.graph(rows)["value"])


def test_rows_of_a_run_are_fewer_where_they_are_longer(engine: Engine, tmp_path: Path) -> None:
    """Rows 32 times as long as those that were timed: a 32nd is computed at a time."""
    model = replace(engine.load(write_regression(tmp_path / "made").directory), row_seconds=ROW_SECONDS)
    runs: list[tuple[int, bool]] = []

    def watched(inputs: Arrays, *, shrink: bool = False) -> Arrays:
        runs.append((len(inputs["features"]), shrink))
        time.sleep(0.02)
        return {"value": inputs["features"][:, 0]}

    slow, context = replace(model, graph=watched), due_in(SOON)
    context.budget = MemoryBudget(1 << 20, lambda: 1.0)
    rows = np.arange(5 * 32 * 2, dtype=np.float32).reshape(5, 64)
    before = model.pace.seconds
    outputs = asyncio.run(engine.run(slow, {"features": rows}, context))
    assert runs == [(2, True), (2, True), (1, True)]
    np.testing.assert_array_equal(outputs["value"], rows[:, 0])
    assert context.reserved == RUN_MEMORY * rows[:2].nbytes
    assert model.pace.seconds < before + 0.001, "the pace is of a row as long as was timed"
    runs.clear()
    asyncio.run(engine.run(slow, {"features": rows[:, :4]}, due_in(SOON)))
    assert runs == [(5, False)]


def test_batches_end_at_the_deadline(engine: Engine, tmp_path: Path) -> None:
    model = replace(engine.load(write_regression(tmp_path / "made").directory), row_seconds=ROW_SECONDS)
    computed: list[int] = []

    def slow(inputs: Arrays) -> Arrays:
        computed.append(1)
        time.sleep(0.05)
        return model.graph(inputs)

    rows = {"features": np.zeros((100 * BATCH, 2), np.float32)}
    with pytest.raises(DeadlineExceeded):
        asyncio.run(engine.run(replace(model, graph=slow), rows, due_in(0.12)))
    engine.turns._pool.shutdown(wait=True)
    assert 1 <= len(computed) <= 3


def test_a_full_queue_is_an_error_and_frees_itself(engine: Engine) -> None:
    async def scenario() -> None:
        release = threading.Event()
        asked = [
            asyncio.create_task(engine.turns.offload(partial(release.wait, SOON), due_in(SOON)))
            for _ in range(50)
        ]
        await asyncio.sleep(0.05)
        refused = [task for task in asked if task.done()]
        release.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert refused
        assert all(isinstance(task.exception(), Overloaded) for task in refused)
        assert results.count(True) == len(asked) - len(refused) == cpu_cores() + 1
        assert await engine.turns.offload(lambda: 7, due_in(SOON)) == 7

    asyncio.run(scenario())


def test_past_the_deadline_work_does_not_begin(engine: Engine) -> None:
    begun: list[int] = []
    with pytest.raises(DeadlineExceeded):
        asyncio.run(engine.turns.offload(lambda: begun.append(1), due_in(-1)))
    assert not begun


def test_late_work_keeps_its_place_until_it_is_done() -> None:
    engine = Engine("cpu", threads=cpu_cores(), queue=0, generations=1)  # one place

    async def scenario() -> None:
        release = threading.Event()
        with pytest.raises(DeadlineExceeded):
            await engine.turns.offload(partial(release.wait, SOON), due_in(0.05))
        with pytest.raises(Overloaded):
            await engine.turns.offload(lambda: 7, due_in(SOON))
        release.set()
        await asyncio.sleep(0.1)
        assert await engine.turns.offload(lambda: 7, due_in(SOON)) == 7

    asyncio.run(scenario())
    engine.close()


def test_a_graph_that_does_not_take_what_the_task_gives(engine: Engine, tmp_path: Path) -> None:
    made = write_images(tmp_path / "made")
    model = onnx.load_from_string(image_graph(np.zeros((64, 10))))
    model.graph.input[0].name = model.graph.node[0].input[0] = "input0"
    made.graph_path.write_bytes(model.SerializeToString())
    manifest = made.directory / "manifest.json"
    digest = sha256(made.graph_path)
    manifest.write_text(manifest.read_text().replace(made.manifest.files["model.onnx"], digest))
    with pytest.raises(BundleError, match="does not run"):
        engine.load(made.directory)


def test_another_answer_than_the_golden_one(engine: Engine, tmp_path: Path) -> None:
    made = write_regression(tmp_path / "made", bias=1.0)
    other = write_regression(tmp_path / "other", bias=2.0)
    made.graph_path.write_bytes(other.graph_path.read_bytes())
    manifest = made.directory / "manifest.json"
    old, new = (b.manifest.files["model.onnx"] for b in (made, other))
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(BundleError, match="golden request"):
        engine.load(made.directory)


def test_the_probe_graph_opens() -> None:
    assert Graph(IDENTITY).provider == "CPUExecutionProvider"


def test_a_device_is_not_replaced_by_another(tmp_path: Path) -> None:
    try:
        Graph(IDENTITY, "cuda")
    except ProviderUnavailable:
        with pytest.raises(ProviderUnavailable):
            Engine("cuda", 1, 1, 1).load(write_regression(tmp_path / "made").directory)


class Counting(Generation):
    """Writes the numbers from 1 on, each after some time."""

    def __init__(self, last: int, seconds: float = 0.0) -> None:
        self.steps, self.last, self.seconds = 0, last, seconds

    @property
    def inputs(self) -> Arrays:
        return {}

    @property
    def outputs(self) -> Arrays:
        return {}

    def __next__(self) -> str:
        if self.steps == self.last:
            raise StopIteration
        time.sleep(self.seconds)
        self.steps += 1
        return f"{self.steps} "


async def written(engine: Engine, generation: Generation, seconds: float = SOON) -> list[str]:
    return [piece async for piece in engine.pieces(generation, due_in(seconds))]


def test_a_generation_is_computed_in_slices(engine: Engine) -> None:
    assert "".join(asyncio.run(written(engine, Counting(50)))) == "".join(f"{i} " for i in range(1, 51))
    slow = asyncio.run(written(engine, Counting(6, SLICE_SECONDS)))
    assert [piece for piece in slow if piece] == [f"{i} " for i in range(1, 7)]


def test_generations_and_other_work_take_turns(tmp_path: Path) -> None:
    engine = Engine("cpu", threads=cpu_cores(), queue=1, generations=1)  # one thread

    async def both() -> int:
        long = Counting(500, 0.01)
        pieces = engine.pieces(long, due_in(2 * SOON))
        await anext(pieces)
        following = asyncio.ensure_future(anext(pieces))
        await engine.turns.offload(lambda: None, due_in(SOON))
        await following
        await pieces.aclose()
        return long.steps

    assert asyncio.run(both()) < 100
    engine.close()


def test_a_generation_that_nobody_waits_for_is_not_computed_on(engine: Engine) -> None:
    async def leave() -> int:
        generation = Counting(1000, 0.005)
        pieces = engine.pieces(generation, due_in(SOON))
        await anext(pieces)
        await pieces.aclose()
        steps = generation.steps
        await asyncio.sleep(10 * SLICE_SECONDS)
        assert generation.steps == steps
        return len(await written(engine, Counting(3)))

    assert asyncio.run(leave()) >= 1


def test_so_many_generations_at_a_time(engine: Engine) -> None:
    async def three() -> None:
        begun = [engine.pieces(Counting(100, 0.01), due_in(SOON)) for _ in range(3)]
        for pieces in begun[:2]:
            await anext(pieces)
        with pytest.raises(Overloaded):
            await anext(begun[2])
        await begun[0].aclose()
        await written(engine, Counting(1))
        await begun[1].aclose()

    asyncio.run(three())


def test_a_generation_ends_at_its_deadline(engine: Engine) -> None:
    generation = Counting(1000, 0.005)
    with pytest.raises(DeadlineExceeded):
        asyncio.run(written(engine, generation, seconds=0.1))
    assert 1 <= generation.steps < 60
    assert asyncio.run(written(engine, Counting(1))), "its place is free again"


def test_threads_that_are_all_stuck() -> None:
    turns = Turns(2, places=2)
    ends = [threading.Event(), threading.Event()]
    for end in ends:
        turns.submit("lane", Job(end.wait, due_in(SOON)))
    while not turns.stuck(0):
        time.sleep(0.001)
    assert not turns.stuck(SOON)
    ends[0].set()
    while turns.stuck(0):
        time.sleep(0.001)
    ends[1].set()
    turns.close()
