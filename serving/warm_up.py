"""Opens a bundle's graph on a device, checks its golden answer, and measures its speed."""

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
WARM_UP_SECONDS = 0.5  # no further runs after this time, if single runs take long


def open_and_warm_up(
    bundle: Bundle, device: str, threads: int, seconds: float
) -> tuple[Graph | GraphSet, float]:
    """Returns the graph, opened with `threads` CPU threads, and the median seconds of a batch of one.

    The median is infinite if an answer takes many runs. Raises `BundleError` if the graph does not give its
    golden answer within `seconds`, and `ProviderUnavailable` if the device cannot run it.
    """
    graph = bundle.open(device, threads)
    # A graph with random numbers may take longer than it did in its trial.
    ending = threading.Timer(seconds, graph.end_runs)
    ending.start()
    try:
        bundle.replay(graph)
        once = bundle.task.generate is None
        run_seconds = _warm_up(graph, bundle.task.example_inputs(1)) if once else math.inf
    except (BundleError, ProviderUnavailable, MemoryError):
        raise
    except Exception as error:  # any error that the graph causes in ONNX Runtime, NumPy or the task
        raise BundleError("the graph does not run") from error
    finally:
        ending.cancel()
    ending.join()  # it may be running now
    if graph.ended:
        raise BundleError("the graph did not give its golden answer in time")
    return graph, run_seconds


def threads_of(task: Task, threads: int, cores: int) -> int:
    """Returns the CPU threads for a task: all cores with a key-value cache, as its texts share each run."""
    cached = isinstance(task, LanguageModelling) and isinstance(task.memory, KeyValueCache)
    return cores if cached else threads


def _warm_up(graph: Graph | GraphSet, inputs: Arrays) -> float:
    """Returns the median seconds of a run, without the first one."""
    graph(inputs)
    start = time.monotonic()
    seconds: list[float] = []
    while len(seconds) < WARM_UP_RUNS and (not seconds or time.monotonic() - start < WARM_UP_SECONDS):
        begin = time.perf_counter()
        graph(inputs)
        seconds.append(time.perf_counter() - begin)
    return median(seconds)
