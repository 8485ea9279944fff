"""Engine: the only module that opens, checks, warms up and runs models. Independent of HTTP and MLflow.

A model whose computation is very short runs inline, on the event loop; all other computations run in threads
and wait for their turn, see `serving.turns`. In both cases requests share batches, see `serving.batching`.
"""

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal
from weakref import WeakSet

import numpy as np

from serving.batching import Moment, Part
from serving.bundle_trials import Trials
from serving.bundle_verdicts import Verdicts
from serving.context import RequestContext
from serving.continuous_batching import Room
from serving.drift import Window
from serving.gathering import Gathering
from serving.readers import reader_for
from serving.turns import SLICE_SECONDS, Job, Overloaded, Pace, Turns, a_slice, result_of, too_late
from serving.warm_up import open_and_warm_up, threads_of
from zoo import bundle
from zoo.bundle import Bundle
from zoo.cpu_cores import cpu_cores
from zoo.errors import BundleError
from zoo.graph import Graph, GraphSet
from zoo.tasks import Arrays
from zoo.tasks.base import Generation, Run
from zoo.tasks.sequence_to_sequence import SequenceToSequence, Transformation
from zoo.tasks.writing import Writing

INLINE_SECONDS = 0.001
"""Maximum seconds of a computation on the event loop; a switch to a thread and back costs about 0.1 ms."""
ALONE_SECONDS = 0.004
"""Maximum seconds of a computation on the event loop while no other request is in flight."""
BATCH = 64
"""Maximum number of rows in a thread's batch: bounds the memory of a request with many rows."""
LONG = 8
"""Size of a row, relative to the timed row, above which a run returns its memory, which takes some time."""
RUN_MEMORY = 200
"""Bytes of memory that a run of long rows takes per byte of its inputs; the LSTM was measured at 165."""
TEXTS = "texts"
"""First part of the lanes of generations."""

# Minimal graph `y = Identity(x)`, to test whether a device works.
IDENTITY = bytes.fromhex(
    "08083a2f0a100a017812017922084964656e746974791201675a0b0a0178"
    "12060a0408011200620b0a017912060a040801120042040a001011"
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Bundle that passed its checks, with its graph opened and warmed up."""

    bundle: Bundle
    graph: Graph | GraphSet
    card: str
    row_seconds: float
    """Median seconds of a batch of one row; infinite if an answer takes many runs."""
    pace: Pace
    """Measured seconds per row in a thread's batch."""
    row_numbers: int
    """Number of elements in the inputs of the timed row."""
    asked: Window
    """Window of the last rows, to measure drift."""
    room: Room | None
    """Continuous batching, if this is a language model."""
    gathering: Gathering | None
    """Batching of requests, if this is a sequence-to-sequence model."""

    @property
    def mode(self) -> Literal["inline", "batched", "sliced"]:
        """Execution of a request of one row: on the event loop, in a thread's batch, or in slices."""
        if math.isinf(self.row_seconds):
            return "sliced"
        return "inline" if self.row_seconds <= INLINE_SECONDS else "batched"

    @cached_property
    def moment(self) -> Moment:
        """Batching of small requests on the event loop."""
        return Moment(self.graph, max(1, int(INLINE_SECONDS / self.row_seconds)))

    @property
    def batch_rows(self) -> int:
        """Number of rows in a thread's batch: as many as fit in SLICE_SECONDS."""
        return max(1, min(BATCH, int(SLICE_SECONDS / self.row_seconds)))


class Engine:
    """Loads models and runs them on one device.

    Deadlines are times on `time.monotonic()`. A computation that has not begun by its deadline never begins.
    """

    def __init__(
        self,
        device: str,
        threads: int,
        queue: int,
        generations: int,
        processes: int = 1,
        verdicts: Path | None = None,
    ) -> None:
        """Uses `threads` CPU threads for each computation; at most `queue` computations wait.

        Each model generates at most `generations` texts at a time. `processes` is the number of processes
        that share the cores, and `verdicts` the directory for the verdicts of bundle trials.
        """
        self.device = device
        self.threads = threads
        self._cores = max(1, cpu_cores() // processes)
        self.turns = Turns(max(1, self._cores // threads), queue)
        self.trials = Trials(device, threads, self._cores, Verdicts(verdicts, device))
        self._generations = generations
        self._queue = queue
        self._rooms: WeakSet[Room] = WeakSet()
        self._writing: Counter[str] = Counter()
        """Number of texts being generated, by model; used by the event loop only."""

    def load(self, directory: Path) -> LoadedModel:
        """Loads a bundle on the engine's device, checks its digests and golden answer, and warms it up.

        A bundle that was never loaded before is first tried in another process, within the limits of
        `serving.bundle_trials`. Raises `BundleError` if it fails a check, and `ProviderUnavailable` if the
        device cannot run it.
        """
        digest = self.trials.require_passed(directory)
        loaded = bundle.load(directory)
        if loaded.digest != digest:
            raise BundleError("the bundle was changed while it was loaded")
        threads = threads_of(loaded.task, self.threads, self._cores)
        graph, seconds = open_and_warm_up(
            loaded, self.device, threads, self.trials.longest_seconds(directory)
        )
        asked = Window(loaded.manifest.model, loaded.task, loaded.baseline)
        return LoadedModel(
            bundle=loaded,
            graph=graph,
            card=loaded.read_text("card.md"),
            row_seconds=seconds,
            pace=Pace(seconds),
            row_numbers=numbers_in(loaded.task.example_inputs(1)),
            asked=asked,
            room=self._room(loaded, graph),
            gathering=self._gathering(loaded, graph),
        )

    async def run(self, model: LoadedModel, inputs: Arrays, context: RequestContext) -> Arrays:
        """Returns the outputs for inputs of any batch size. Raises the errors of `Turns.offload`.

        A request of many rows yields to others between its batches.
        """
        rows = len(next(iter(inputs.values())))
        context.timing.rows += rows
        # Size of the rows relative to the timed row: longer rows take longer.
        length = max(1.0, numbers_in(inputs) / max(1, rows * model.row_numbers))
        longest = ALONE_SECONDS if self.turns.alone() else INLINE_SECONDS
        if length == 1.0 and model.row_seconds * rows <= longest:
            if time.monotonic() >= context.deadline:
                raise too_late()
            if self.turns.alone():
                return model.moment.run_alone(inputs, context.timing)
            return await model.moment.run(inputs, context.timing)
        most = max(1, int(model.batch_rows / length))
        run: Run = model.graph
        if length > LONG:
            context.reserve(RUN_MEMORY * sum(array[:most].nbytes for array in inputs.values()))
            run = partial(model.graph, shrink=True)
        outputs: list[Arrays] = []
        for start in range(0, rows, most):
            batch = {name: array[start : start + most] for name, array in inputs.items()}
            part = Part(run, batch, most, context, model.pace, length)
            self.turns.submit(model, part, admitted=start > 0, seconds=rows * length * model.pace.seconds)
            outputs.append(await result_of(part))
        if len(outputs) == 1:
            return outputs[0]
        return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}

    async def pieces(
        self, generation: Generation, context: RequestContext, model: LoadedModel | None = None
    ) -> AsyncGenerator[str, None]:
        """Yields the pieces of a generation, computed in slices between which other work has its turn.

        Raises the errors of `Turns.offload`. Nothing more is computed once the iterator is closed.
        """
        if model is not None and model.room is not None and isinstance(generation, Writing):
            async with aclosing(model.room.pieces(generation, context)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        name = context.timing.model
        gathering = None if model is None else model.gathering
        if gathering is None and self._writing[name] >= self._generations:
            raise Overloaded("too many texts are being written; try again later")
        self._writing[name] += 1
        self.turns.widen(1)  # it adds its own place, as texts have a limit of their own
        try:
            if gathering is not None and isinstance(generation, Transformation):
                await gathering.finish(generation, context)
                return
            ended = False
            work = partial(context.timing.measured, "compute", partial(a_slice, generation))
            while not ended:
                job = Job(work, context)
                self.turns.submit((TEXTS, name), job, admitted=True)
                piece, ended = await result_of(job)
                yield piece
        finally:
            self.turns.widen(-1)
            self._writing[name] -= 1

    def writing(self) -> dict[str, int]:
        """Returns the number of texts being generated, by model."""
        counts = Counter(dict(list(self._writing.items())))  # a list, as another thread may call this
        for room in list(self._rooms):
            counts[room.model] += room.writing
        return dict(counts)

    def _room(self, model: Bundle, graph: Graph | GraphSet) -> Room | None:
        reader = reader_for(model.task, graph, self._generations)
        if reader is None:
            return None
        name = model.manifest.model
        room = Room(name, reader, self._generations, self._queue, self.turns, (TEXTS, name, model.digest))
        self._rooms.add(room)
        return room

    def _gathering(self, model: Bundle, graph: Graph | GraphSet) -> Gathering | None:
        if not isinstance(model.task, SequenceToSequence):
            return None
        lane = TEXTS, model.manifest.model, model.digest
        return Gathering(graph, self.turns, lane, self._cores // self.threads or 1, self._queue)

    @property
    def has_spare_core(self) -> bool:
        """True if a computation that begins now takes no core from a thread."""
        return self.turns.idle

    def close(self) -> None:
        """Stops a trial of a bundle at once, and the threads after their current computations."""
        self.trials.close()
        self.turns.close()


def numbers_in(arrays: Arrays) -> int:
    """Returns the total number of elements in the arrays."""
    numbers = 0
    for array in arrays.values():
        numbers += array.size
    return numbers


def require_device(device: str) -> None:
    """Raises `ProviderUnavailable` unless ONNX Runtime can open a graph on the device."""
    # In a child process: this one may outlive the check and would keep the device's memory allocated.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_open_on, device).result()


def _open_on(device: str) -> None:
    Graph(IDENTITY, device)
