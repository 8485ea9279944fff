"""Opens a bundle's graph on a device, lets it prove itself, and measures it."""

import math
import threading
import time
from statistics import median

from zoo.bundle import Bundle
from zoo.errors import BundleError, ProviderUnavailable
from zoo.graph import Graph, GraphSet
from zoo.tasks import Arrays, Task
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache

WARM_UP_RUNS = 7
WARM_UP_SECONDS = 0.5  # enough of a warm-up where a single run takes long


def open_and_warm_up(
    bundle: Bundle, device: str, threads: int, seconds: float
) -> tuple[Graph | GraphSet, float]:
    """The graph with `threads` CPU threads, and the median seconds of a batch of one.

    The median is infinite where an answer takes many runs. `BundleError` where the graph does not give its
    golden answer, or not in so many `seconds`; `ProviderUnavailable` where the device does not take it.
    """
    graph = bundle.open(device, threads)
    # A graph with random numbers may take longer than when it was tried.
    ending = threading.Timer(seconds, graph.end_runs)
    ending.start()
    try:
        bundle.replay(graph)
        once = bundle.task.generate is None
        run_seconds = _warm_up(graph, bundle.task.example_inputs(1)) if once else math.inf
    except (BundleError, ProviderUnavailable, MemoryError):
        raise
    except Exception as error:  # whatever a foreign graph makes ONNX Runtime, NumPy or the task raise
        raise BundleError("the graph does not run") from error
    finally:
        ending.cancel()
    ending.join()  # it may be at work
    if graph.ended:
        raise BundleError("the graph did not give its golden answer in time")
    return graph, run_seconds


def threads_of(task: Task, threads: int, cores: int) -> int:
    """All cores for a model with a cache: its texts are written together, in one run after another."""
    cached = isinstance(task, LanguageModelling) and isinstance(task.memory, KeyValueCache)
    return cores if cached else threads


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
