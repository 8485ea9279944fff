"""Readiness of the service, as `/readyz`, V2's `/v2/health/ready` and the metric `zoo_ready` report it."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.catalogue import Catalogue, VersionEntry
from serving.drain import Drain
from serving.follower import Follower
from serving.problem import Problem, draining, none_loaded, not_listed, not_ready, stuck
from serving.turns import Turns
from zoo.version import CHAMPION


class Readiness(Collector):
    """Readiness of this process to answer requests.

    The process is not ready before it has read its source, nor while the source names champions but none is
    loaded. It is ready if some champions are loaded and others cannot be.
    """

    def __init__(self, follower: Follower, turns: Turns, drain: Drain, deadline: float) -> None:
        """`deadline` is the maximum duration of a request in seconds."""
        self._follower = follower
        self._turns = turns
        self._drain = drain
        self._deadline = deadline

    def require(self) -> None:
        """Raises `Problem` 503 with the reason if the service is not ready."""
        if self._drain.begun:
            raise draining()
        catalogue = self._follower.catalogue
        if catalogue is None:
            raise not_ready() if self._follower.problem is None else not_listed()
        if not catalogue.champions and (named := len(_champions(catalogue))):
            raise none_loaded(named)
        if self._turns.stuck(self._deadline):
            raise stuck()

    def collect(self) -> Iterator[Metric]:
        try:
            self.require()
            ready = 1
        except Problem:
            ready = 0
        yield GaugeMetricFamily("zoo_ready", "1 where /readyz answers 200.", ready)
        catalogue = self._follower.catalogue
        yield GaugeMetricFamily(
            "zoo_champions_not_served",
            "Models whose champion, as the registry names it, is not what answers.",
            0 if catalogue is None else sum(c.state != "serving" for c in _champions(catalogue)),
        )


def _champions(catalogue: Catalogue) -> list[VersionEntry]:
    """Returns the champions that the source names, loaded or not."""
    entries = (entry for versions in catalogue.versions.values() for entry in versions)
    return [entry for entry in entries if CHAMPION in entry.aliases]
