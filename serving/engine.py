"""Runs models: the one place that opens, checks, warms up and executes them. Knows no HTTP and no MLflow.

A model that computes faster than a thread hop costs is run in place, on the event loop; every other
computation goes to a pool of one thread a core behind a bounded queue.
"""

import asyncio
import math
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from serving.drift import Window
from serving.timing import Phase, Timing
from zoo import bundle
from zoo.bundle import Bundle
from zoo.errors import BundleError, ZooError
from zoo.graph import Graph, GraphSet
from zoo.tasks import Arrays
from zoo.tasks.base import Generation, run_in_batches

T = TypeVar("T")

INLINE_SECONDS = 0.001
"""Longest computation on the event loop; a hop to a thread and back costs about 0.1 ms."""
BATCH = 64
"""Rows that a thread computes at a time: bounds the memory that a request of many rows takes."""
SLICE_SECONDS = 0.02
"""How long a generation computes until other work has its turn."""
WARM_UP_RUNS = 7
WARM_UP_SECONDS = 0.5  # enough of a warm-up where a single run takes long

# The smallest graph there is, `y = Identity(x)`, to find out whether a device works.
IDENTITY = bytes.fromhex(
    "08083a2f0a100a017812017922084964656e746974791201675a0b0a0178"
    "12060a0408011200620b0a017912060a040801120042040a001011"
)


class Overloaded(ZooError):
    """Every core is busy and the queue is full."""


class DeadlineExceeded(ZooError):
    """The answer would come later than the request allows."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A bundle that passed its checks, open and warm."""

    bundle: Bundle
    graph: Graph | GraphSet
    card: str
    row_seconds: float
    """Median time of a batch of one; infinite where an answer takes many runs."""
    asked: Window
    """What it was asked last."""


class Engine:
    """Loads models and runs them on one device.

    Deadlines are points on `time.monotonic()`; a computation that has not begun by then never begins.
    """

    def __init__(self, device: str, threads: int, queue: int, generations: int, processes: int = 1) -> None:
        """`threads` CPU threads a computation; at most `queue` of them waiting, and so many `generations`.

        So many `processes` share the cores.
        """
        self.device = device
        self.threads = threads
        workers = max(1, len(os.sched_getaffinity(0)) // (threads * processes))
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="engine")
        self._unfinished: set[Future[Any]] = set()
        self._places = threading.BoundedSemaphore(workers + queue)
        self._generations = generations
        self._writing: Counter[str] = Counter()
        """Texts being written, by model; used by the event loop alone."""

    def load(self, directory: Path) -> LoadedModel:
        """A bundle, its digests and golden answer checked, on the engine's device, warmed up.

        `BundleError` where it fails a check, `ProviderUnavailable` where the device does not take it.
        """
        loaded = bundle.load(directory)
        graph = loaded.open(self.device, self.threads)
        try:
            loaded.replay(graph)
            once = loaded.task.generate is None
            seconds = _warm_up(graph, loaded.task.example_inputs(1)) if once else math.inf
        except ZooError:
            raise
        except Exception as error:  # whatever a foreign graph makes ONNX Runtime or numpy raise
            raise BundleError(f"the graph does not run: {error}") from error
        asked = Window(loaded.manifest.model, loaded.task, loaded.baseline)
        return LoadedModel(loaded, graph, loaded.read_text("card.md"), seconds, asked)

    async def run(
        self,
        model: LoadedModel,
        inputs: Arrays,
        deadline: float,
        timing: Timing | None = None,
        *,
        inline: bool = True,
    ) -> Arrays:
        """Outputs for inputs of any batch size; see `offload` for errors.

        `inline` says that rows are no longer than those by which the model was timed.
        """
        timing = Timing() if timing is None else timing
        run, rows = timing.counted(model.graph), len(next(iter(inputs.values())))
        timing.rows += rows

        def batch(part: Arrays) -> Arrays:
            return _in_time(partial(run, part), deadline)

        if inline and model.row_seconds * rows <= INLINE_SECONDS:
            return timing.measured("compute", partial(batch, inputs))
        work = partial(timing.measured, "compute", partial(run_in_batches, batch, inputs, BATCH))
        return await self.offload(work, deadline, timing)

    async def offload(self, work: Callable[[], T], deadline: float, timing: Timing | None = None) -> T:
        """The result of work that would hold up the event loop.

        `Overloaded` where there is no place in the queue, `DeadlineExceeded` past the deadline. Work that
        has begun by then keeps its place until it is done, so that late answers cannot pile up.
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded("every core is busy and the queue is full; try again later")
        future = self._submit(work, deadline, timing)
        future.add_done_callback(lambda _: self._places.release())
        return await _result(future, deadline)

    async def timed(
        self, phase: Phase, work: Callable[[], T], small: bool, deadline: float, timing: Timing
    ) -> T:
        """The result of work of a phase: done at once where it is small, and as by `offload` where not."""
        if small:
            return timing.measured(phase, work)
        return await self.offload(partial(timing.measured, phase, work), deadline, timing)

    async def pieces(
        self, generation: Generation, deadline: float, timing: Timing | None = None
    ) -> AsyncGenerator[str, None]:
        """What a generation writes, in slices between which other work has its turn; errors as of `offload`.

        Nothing more is computed once the iterator is closed.
        """
        if self._writing.total() >= self._generations:
            raise Overloaded("as many texts as may be are being written; try again later")
        timing = Timing() if timing is None else timing
        model = timing.model
        self._writing[model] += 1
        try:
            ended = False
            work = partial(timing.measured, "compute", partial(_slice, generation))
            while not ended:
                piece, ended = await _result(self._submit(work, deadline, timing), deadline)
                yield piece
        finally:
            self._writing[model] -= 1

    def writing(self) -> dict[str, int]:
        """Texts being written, by model."""
        return dict(list(self._writing.items()))  # a list: another thread may ask

    @property
    def has_spare_core(self) -> bool:
        """Whether a computation that begins now takes no thread's place."""
        return len(self._unfinished) < self._workers

    def _submit(self, work: Callable[[], T], deadline: float, timing: Timing | None) -> "Future[T]":
        submitted = time.monotonic_ns()

        def begin() -> T:
            if timing is not None:
                timing.queue += time.monotonic_ns() - submitted
            return _in_time(work, deadline)

        future = self._pool.submit(begin)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def close(self) -> None:
        """Ends the threads once they are done."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def require_device(device: str) -> None:
    """Raises `ProviderUnavailable` unless ONNX Runtime can really compute on the device."""
    # In a process of its own: this one may outlive the check and would keep the device's memory.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_open_on, device).result()


def _open_on(device: str) -> None:
    Graph(IDENTITY, device)


async def _result(future: "Future[T]", deadline: float) -> T:
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise DeadlineExceeded("the request was not answered within its deadline") from None


def _slice(generation: Generation) -> tuple[str, bool]:
    """What is written in a slice of time, and whether that was the end."""
    written, until = [], time.monotonic() + SLICE_SECONDS
    for piece in generation:
        written.append(piece)
        if time.monotonic() >= until:
            return "".join(written), False
    return "".join(written), True


def _in_time(work: Callable[[], T], deadline: float) -> T:
    if time.monotonic() >= deadline:
        raise DeadlineExceeded("the request was not answered within its deadline")
    return work()


def _warm_up(graph: Graph | GraphSet, inputs: Arrays) -> float:
    """Median seconds of a run, the first one left out."""
    graph(inputs)
    start = time.monotonic()
    seconds: list[float] = []
    while len(seconds) < WARM_UP_RUNS and (not seconds or time.monotonic() - start < WARM_UP_SECONDS):
        begin = time.perf_counter()
        graph(inputs)
        seconds.append(time.perf_counter() - begin)
    return median(seconds)
