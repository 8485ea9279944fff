"""Counts and times of each version's answers, for `/metrics` and for the statistics of Triton's protocol.

The event loop alone records requests, as plain integers and without a lock; Prometheus' library is only used
for a query. With several workers, the one that is queried adds up the counts of all of them. Sources:
Prometheus, Exposition formats and Metric and label naming; Triton Inference Server, Statistics Extension.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.catalogue import Catalogue
from serving.engine import Engine
from serving.follower import Follower
from serving.memory import MemoryBudget
from serving.open_connections import OpenConnections
from serving.refusals import Refusals
from serving.settings import Settings
from serving.siblings import Siblings
from serving.timing import Phase, Timing
from zoo.tasks import TASKS
from zoo.version import CHAMPION

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
PHASES: tuple[Phase, ...] = get_args(Phase)
UNANSWERED = "unanswered"  # the client left, or the service stopped
SECOND = 1_000_000_000  # nanoseconds
LATENCIES = tuple(
    round(seconds * SECOND)
    for seconds in (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10, 30)
)
SIZES = tuple(2**power for power in range(13))
"""Bucket bounds for batch sizes, up to the maximum number of rows in a request."""
LONGEST_REASON = 120  # characters
WORST_FEATURES = 20  # features of a version whose drift is exported
VERSION = ("model", "version")


@dataclass(frozen=True)
class Duration:
    """Number of events, and their total nanoseconds."""

    count: int
    ns: int


@dataclass(frozen=True)
class Statistics:
    """Statistics of one version since the start, in Triton's terms; phases and rows count successes only."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    inference_count: int
    """Number of rows."""
    execution_count: int
    """Number of batches."""
    last_inference: int
    """Milliseconds since the epoch; 0 if there was none."""


class Histogram:
    """Histogram of integers by inclusive upper bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def add(self, value: int, times: int = 1) -> None:
        """Counts a value `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.counts)

    def state(self) -> tuple[list[int], int]:
        """Returns the counts and the sum as JSON types, for `include`."""
        return self.counts, self.sum

    def include(self, state: tuple[list[int], int]) -> None:
        """Adds the counts of another histogram with the same bounds."""
        counts, total = state
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, counts, strict=True)]
        self.sum += total

    def buckets(self, unit: int) -> list[tuple[str, float]]:
        """Returns cumulative counts by upper bound in units of `unit`, as in Prometheus."""
        rendered, below = [], 0
        for bound, count in zip((*(f"{b / unit:g}" for b in self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            rendered.append((bound, float(below)))
        return rendered


class Tally:
    """Counts and times of one version."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}
        """Number of requests by dialect and outcome."""
        self.total = Histogram(LATENCIES)
        self.phases = {phase: Histogram(LATENCIES) for phase in PHASES}
        self.batches = Histogram(SIZES)
        self.rows = 0
        self.success_ns = 0
        self.last = 0

    def add(self, dialect: str, status: int, total: int, timing: Timing) -> None:
        """Counts a request that took `total` nanoseconds, and its phases if it succeeded."""
        outcome = outcome_of(status)
        key = (dialect, outcome)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.total.add(total)
        if outcome != "2xx" or not timing.model:
            return
        self.success_ns += total
        self.phases["queue"].add(timing.queue)
        self.phases["decode"].add(timing.decode)
        self.phases["compute"].add(timing.compute)
        self.phases["encode"].add(timing.encode)
        self.rows += timing.rows
        for size, times in timing.batches.items():
            self.batches.add(size, times)
        self.last = time.time_ns()

    def state(self) -> dict[str, Any]:
        """Returns all counts as JSON types, for `include`."""
        return {
            "requests": [[*key, count] for key, count in list(self.requests.items())],
            "histograms": [histogram.state() for histogram in self._histograms()],
            "rows": self.rows,
            "success_ns": self.success_ns,
            "last": self.last,
        }

    def include(self, state: dict[str, Any]) -> None:
        """Adds the counts of another tally."""
        for dialect, outcome, count in state["requests"]:
            self.requests[dialect, outcome] = self.requests.get((dialect, outcome), 0) + count
        for histogram, counted in zip(self._histograms(), state["histograms"], strict=True):
            histogram.include(counted)
        self.rows += state["rows"]
        self.success_ns += state["success_ns"]
        self.last = max(self.last, state["last"])

    def _histograms(self) -> list[Histogram]:
        return [self.total, *self.phases.values(), self.batches]


Tallies = dict[tuple[str, str], Tally]
"""Tallies by registered model and version."""


def outcome_of(status: int) -> str:
    """Returns the outcome of a request, such as `2xx`, from its status (0 if it was not answered)."""
    return f"{status // 100}xx" if status else UNANSWERED


class Measurements(Collector):
    """Metrics of the service since its start, and of the versions that it serves now."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Callable[[], Catalogue | None],
        follower: Follower,
        siblings: Siblings,
        memory: MemoryBudget,
        connections: OpenConnections,
        refusals: Refusals,
        settings: Settings,
    ) -> None:
        self._siblings = siblings
        siblings.share("connections", lambda: [len(connections), connections.refused, connections.aborted])
        siblings.share("refusals", lambda: {str(status): n for status, n in refusals.counts.items()})
        siblings.share("memory", lambda: [memory.reserved, memory.refused])
        siblings.share("versions", self._tallied)
        siblings.share("writing", engine.writing)
        self._places = settings.generations * settings.workers
        self._engine = engine
        self._catalogue = catalogue
        self._follower = follower
        self._tallies: Tallies = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        if settings.workers == 1:  # with several, it is unknown which process is queried
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self._registry)

    def include(self, collector: Collector) -> None:
        """Adds the metrics of another collector to the page."""
        self._registry.register(collector)

    def record(self, dialect: str, status: int, total: int, timing: Timing) -> None:
        """Counts a request that took `total` nanoseconds; `status` is 0 if it was not answered."""
        key = (timing.model, timing.version)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.add(dialect, status, total, timing)

    def statistics(self, *versions: tuple[str, str]) -> list[Statistics]:
        """Returns the statistics of versions over all workers; zeros for a version without requests.

        Blocks until the other workers answer, so do not call it on the event loop.
        """
        tallies = self._together()
        return [statistics_of(tallies.get(version, Tally())) for version in versions]

    def page(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._counted(self._together())
        yield from self._served(self._writing())
        yield from self._drifted()
        yield from self._remembered()
        yield from self._kept_out()
        yield GaugeMetricFamily(
            "zoo_compute_threads",
            "Computations that each worker runs side by side.",
            self._engine.turns.threads,
        )
        yield GaugeMetricFamily(
            "zoo_serving_from_cache",
            "1 where the registry could not be read since the start.",
            int(self._follower.from_cache),
        )
        read_at = self._follower.read_at
        if read_at is not None:
            age = time.monotonic() - read_at
            yield GaugeMetricFamily("zoo_registry_read_age_seconds", "Since the registry was last read.", age)

    def _tallied(self) -> list[Any]:
        return [[*version, tally.state()] for version, tally in list(self._tallies.items())]

    def _together(self) -> Tallies:
        """Returns the tallies added up over all workers."""
        tallies: Tallies = {}
        for state in self._siblings.states("versions"):
            for model, version, counted in state:
                tallies.setdefault((model, version), Tally()).include(counted)
        return tallies

    def _writing(self) -> Counter[str]:
        """Returns the number of texts that each model is generating, over all workers."""
        writing: Counter[str] = Counter()
        for state in self._siblings.states("writing"):
            writing.update(state)
        return writing

    def _remembered(self) -> Iterator[Metric]:
        reserved, refused = map(sum, zip(*self._siblings.states("memory"), strict=True))
        yield GaugeMetricFamily(
            "zoo_memory_bytes",
            "Bytes reserved for bodies of requests in flight and data decoded from them.",
            reserved,
        )
        yield CounterMetricFamily("zoo_memory_refused", "Requests refused for want of memory.", refused)

    def _kept_out(self) -> Iterator[Metric]:
        """Yields the metrics of connections and of requests that were refused before they were read."""
        open_now, refused, aborted = map(sum, zip(*self._siblings.states("connections"), strict=True))
        yield GaugeMetricFamily("zoo_connections", "Open connections.", open_now)
        yield CounterMetricFamily("zoo_connections_refused", "Connections closed as one too many.", refused)
        yield CounterMetricFamily(
            "zoo_connections_aborted", "Connections closed because the client did not read.", aborted
        )
        requests = CounterMetricFamily(
            "zoo_requests_refused", "Requests refused before their body was read.", labels=("status",)
        )
        counts: Counter[str] = Counter()
        for state in self._siblings.states("refusals"):
            counts.update(state)
        for status, count in counts.items():
            requests.add_metric((status,), count)
        yield requests

    def _counted(self, tallies: Tallies) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "zoo_requests", "Requests; `model` is empty if none that is served was named.",
            labels=(*VERSION, "dialect", "outcome"),
        )  # fmt: skip
        rows = CounterMetricFamily("zoo_rows", "Examples computed.", labels=VERSION)
        executions = CounterMetricFamily("zoo_executions", "Batches that a graph computed.", labels=VERSION)
        sizes = HistogramMetricFamily("zoo_batch_size", "Rows of a batch.", labels=VERSION)
        total = HistogramMetricFamily(
            "zoo_request_seconds", "Seconds from the request's head to the answer's end.", labels=VERSION
        )
        phases = {
            phase: HistogramMetricFamily(
                f"zoo_{phase}_seconds", f"Seconds of a request spent {what}.", labels=VERSION
            )
            for phase, what in zip(
                PHASES, ("waiting", "decoding", "running the graph", "encoding the answer"), strict=True
            )
        }
        for version, tally in tallies.items():
            for key, count in tally.requests.items():
                requests.add_metric((*version, *key), count)
            total.add_metric(version, tally.total.buckets(SECOND), tally.total.sum / SECOND)
            if not version[0]:
                continue
            rows.add_metric(version, tally.rows)
            executions.add_metric(version, tally.batches.count)
            sizes.add_metric(version, tally.batches.buckets(1), tally.batches.sum)
            for phase, family in phases.items():
                histogram = tally.phases[phase]
                family.add_metric(version, histogram.buckets(SECOND), histogram.sum / SECOND)
        yield from (requests, rows, executions, sizes, total, *phases.values())

    def _drifted(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily("zoo_drift_rows", "Rows whose drift is measured.", labels=VERSION)
        psi = GaugeMetricFamily(
            "zoo_drift_psi", "Population stability index of the last rows against the training split.",
            labels=(*VERSION, "feature"),
        )  # fmt: skip
        catalogue = self._catalogue()
        for served, drift in () if catalogue is None else catalogue.drift():
            version = (served.manifest.model, served.version)
            rows.add_metric(version, drift.window)
            for feature in sorted(drift.psi, key=lambda name: -drift.psi[name])[:WORST_FEATURES]:
                psi.add_metric((*version, feature), drift.psi[feature])
        yield from (rows, psi)

    def _served(self, writing: Counter[str]) -> Iterator[Metric]:
        served = GaugeMetricFamily(
            "zoo_model_served", "1 for each version that answers to its model's name.",
            labels=(*VERSION, "provider", "digest"),
        )  # fmt: skip
        skew = GaugeMetricFamily(
            "zoo_version_skew",
            "Version number of the registry's champion minus that of the version served.",
            labels=("model",),
        )
        refused = GaugeMetricFamily(
            "zoo_version_refused", "1 for each version that may not answer.", labels=(*VERSION, "reason")
        )
        slots = GaugeMetricFamily(
            "zoo_generation_slots",
            "Texts being written by a model, and places for more.",
            labels=("model", "state"),
        )
        catalogue = self._catalogue()
        entries, versions_of = ([], {}) if catalogue is None else (catalogue.entries, catalogue.versions)
        for entry in entries:
            if entry.alias_of is not None:
                continue
            lineage = entry.lineage
            served.add_metric((entry.name, lineage.version, lineage.provider, lineage.digest), 1)
            if TASKS[entry.kind].generate is not None:
                slots.add_metric((entry.name, "busy"), writing[entry.name])
                slots.add_metric((entry.name, "free"), max(0, self._places - writing[entry.name]))
            for version in versions_of.get(entry.name, ()):
                if CHAMPION in version.aliases:
                    skew.add_metric((entry.name,), int(version.version) - int(lineage.version))
        for model, versions in versions_of.items():
            for version in versions:
                if version.state == "refused":
                    refused.add_metric((model, version.version, version.reason[:LONGEST_REASON]), 1)
        yield from (served, skew, refused, slots)


def statistics_of(tally: Tally) -> Statistics:
    """Converts a tally to Triton's terms."""
    count, succeeded = tally.total.count, tally.phases["queue"].count
    queue, decode, compute, encode = (Duration(succeeded, tally.phases[phase].sum) for phase in PHASES)
    return Statistics(
        success=Duration(succeeded, tally.success_ns),
        fail=Duration(count - succeeded, tally.total.sum - tally.success_ns),
        queue=queue,
        compute_input=decode,
        compute_infer=compute,
        compute_output=encode,
        inference_count=tally.rows,
        execution_count=tally.batches.count,
        last_inference=tally.last // 1_000_000,
    )
