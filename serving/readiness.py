"""Readiness of the service, as `/readyz`, V2's `/v2/health/ready` and the metric `zoo_ready` report it."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.drain import Drain
from serving.follower import Follower
from serving.problem import Problem, draining, none_loaded, not_ready, stuck
from serving.turns import Turns
from zoo.version import CHAMPION


class Readiness(Collector):
    """Says whether this process can answer requests.

    A service that starts is not ready before it has loaded a champion, unless its source names none. After
    that a champion that cannot be loaded leaves it ready: what was served before is still served.
    """

    def __init__(self, follower: Follower, turns: Turns, drain: Drain, deadline: float) -> None:
        """`deadline`, in seconds, is the longest that a request may take."""
        self._follower = follower
        self._turns = turns
        self._drain = drain
        self._deadline = deadline

    def require(self) -> None:
        """Raises `Problem` 503 with the reason unless the service is ready."""
        if self._drain.begun:
            raise draining()
        if self._follower.catalogue is None:
            raise not_ready()
        if self._follower.champions_without_any_loaded:
            raise none_loaded(self._follower.champions_without_any_loaded)
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
        models = [] if catalogue is None else catalogue.versions.values()
        champions = [version for versions in models for version in versions if CHAMPION in version.aliases]
        yield GaugeMetricFamily(
            "zoo_champions_not_served",
            "Models whose champion, as the registry names it, is not what answers.",
            sum(champion.state != "serving" for champion in champions),
        )
