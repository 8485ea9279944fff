"""Compares champions with challengers: on the same requests in shadow mode, on a share of them otherwise.

In shadow mode the challenger runs in a thread of its own, and only while the engine has a core to spare.
Source of the metric names: Prometheus, Metric and label naming.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.catalogue import Catalogue, Challenge, Served
from serving.contest import Contest
from serving.engine import BATCH, Engine
from serving.measurements import LATENCIES, SECOND, Histogram, outcome_of
from serving.siblings import Siblings
from serving.timing import Timing
from zoo.tasks.base import run_in_batches

log = logging.getLogger(__name__)

WAITING = 32
"""Maximum number of requests that wait for the challenger in shadow mode; further ones are dropped."""
DROPPED, FAILED, COMPUTED = "dropped", "5xx", "2xx"
VERDICTS = (True, False)
Role = Literal["champion", "challenger"]
PAIR = ("model", "champion", "challenger", "mode")
Pair = tuple[str, str, str, str]


class Comparison:
    """Counts and times of a champion and a challenger in one mode."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[Role, str]] = Counter()
        """Number of requests by role and outcome."""
        self.seconds: dict[Role, Histogram] = {
            "champion": Histogram(LATENCIES),
            "challenger": Histogram(LATENCIES),
        }
        self.agreement: Counter[bool] = Counter()
        """Number of examples by whether both models gave the same answer."""

    def add(self, role: Role, outcome: str, compute: int) -> None:
        """Counts a request and, if it succeeded, the nanoseconds that the graph took."""
        self.requests[role, outcome] += 1
        if outcome == COMPUTED:
            self.seconds[role].add(compute)

    def state(self) -> dict[str, Any]:
        """Returns all counts as JSON types, for `include`."""
        return {
            "requests": [[*key, count] for key, count in list(self.requests.items())],
            "seconds": {role: histogram.state() for role, histogram in self.seconds.items()},
            "agreement": [self.agreement[agrees] for agrees in VERDICTS],
        }

    def include(self, state: dict[str, Any]) -> None:
        """Adds the counts of another comparison."""
        for role, outcome, count in state["requests"]:
            self.requests[role, outcome] += count
        for role, histogram in self.seconds.items():
            histogram.include(state["seconds"][role])
        self.agreement.update(dict(zip(VERDICTS, state["agreement"], strict=True)))


class Challenges(Collector):
    """Comparisons by pair of champion and challenger. Requests are recorded by the event loop.

    With several workers, the one that is asked for metrics adds up the counts of all of them.
    """

    def __init__(self, engine: Engine, catalogue: Callable[[], Catalogue | None], siblings: Siblings) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._siblings = siblings
        siblings.share("challenges", self._compared)
        self._comparisons: dict[Pair, Comparison] = {}
        self._places = threading.BoundedSemaphore(WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")

    def record(self, contest: Contest, status: int, timing: Timing) -> None:
        """Counts a request answered with `status`; in shadow mode the challenger then computes it, too."""
        pair = pair_of(contest.champion, contest.challenge)
        comparison = self._comparisons.setdefault(pair, Comparison())
        role: Role = "champion" if contest.answering is contest.champion else "challenger"
        comparison.add(role, outcome_of(status), timing.compute)
        if contest.inputs is None or contest.challenge.mode.share:
            return
        if not self._engine.has_spare_core or not self._places.acquire(blocking=False):
            comparison.add("challenger", DROPPED, 0)
            return
        self._thread.submit(self._shadow, contest, comparison)

    def close(self) -> None:
        """Stops the thread after its current computation; waiting ones are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _shadow(self, contest: Contest, comparison: Comparison) -> None:
        champion, challenger = contest.champion, contest.challenge.challenger
        inputs, alike = contest.inputs, champion.task.alike
        try:
            if inputs is None or alike is None:
                return
            begun = time.monotonic_ns()
            outputs = run_in_batches(challenger.loaded.graph, inputs, BATCH)
            compute = time.monotonic_ns() - begun
            verdicts = alike(contest.outputs, challenger.task, outputs)
            comparison.add("challenger", COMPUTED, compute)
            comparison.agreement.update(verdicts.tolist())
        except Exception:  # any error of ONNX Runtime; nobody waits for the answer
            comparison.add("challenger", FAILED, 0)
            log.exception("%s version %s failed in the shadow", challenger.manifest.model, challenger.version)
        finally:
            self._places.release()

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "zoo_challenger_requests", "Requests of a model that has a challenger.",
            labels=(*PAIR, "role", "outcome"),
        )  # fmt: skip
        seconds = HistogramMetricFamily(
            "zoo_challenger_seconds", "Seconds that the graph took for a request.", labels=(*PAIR, "role")
        )
        agreement = CounterMetricFamily(
            "zoo_challenger_agreement", "Examples that both computed, by whether they answered alike.",
            labels=(*PAIR, "agrees"),
        )  # fmt: skip
        for pair, comparison in self._together().items():
            for (role, outcome), count in comparison.requests.items():
                requests.add_metric((*pair, role, outcome), count)
            for role, histogram in comparison.seconds.items():
                seconds.add_metric((*pair, role), histogram.buckets(SECOND), histogram.sum / SECOND)
            for agrees in VERDICTS:
                agreement.add_metric((*pair, "yes" if agrees else "no"), comparison.agreement[agrees])
        yield from (requests, seconds, agreement, self._shares())

    def _compared(self) -> list[Any]:
        # A copy, as the event loop goes on recording.
        return [[pair, comparison.state()] for pair, comparison in list(self._comparisons.items())]

    def _together(self) -> dict[Pair, Comparison]:
        """Returns the comparisons added up over all workers."""
        comparisons: dict[Pair, Comparison] = {}
        for state in self._siblings.states("challenges"):
            for pair, counted in state:
                comparisons.setdefault(tuple(pair), Comparison()).include(counted)
        return comparisons

    def _shares(self) -> Metric:
        shares = GaugeMetricFamily(
            "zoo_challenger_share", "Share of requests that a challenger answers; 0 in the shadow.",
            labels=PAIR,
        )  # fmt: skip
        catalogue = self._catalogue()
        for champion in () if catalogue is None else catalogue.champions:
            if champion.challenge is not None:
                shares.add_metric(pair_of(champion, champion.challenge), champion.challenge.mode.share)
        return shares


def pair_of(champion: Served, challenge: Challenge) -> Pair:
    """Returns the metric labels of a champion and its challenger."""
    return champion.manifest.model, champion.version, challenge.challenger.version, challenge.mode.name
