"""The versions that the Open Inference Protocol's paths name."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from serving.catalogue import Catalogue, Served
from serving.on_demand import OnDemand
from serving.problem import not_ready
from serving.protocols.v2.model import Interface


class Versions:
    """Champions, which are loaded, and others, which are when they are asked for."""

    def __init__(self, catalogue: Callable[[], Catalogue | None], on_demand: OnDemand) -> None:
        self._catalogue = catalogue
        self._on_demand = on_demand
        self._interfaces: WeakKeyDictionary[Served, Interface] = WeakKeyDictionary()

    def catalogue(self) -> Catalogue:
        """The snapshot of the moment; 503 before the first."""
        catalogue = self._catalogue()
        if catalogue is None:
            raise not_ready()
        return catalogue

    async def find(self, name: str, version: str, deadline: float) -> Served:
        """The version of a number or an alias, or the champion where there is none of both.

        `NotFound` and `DeadlineExceeded` as of the catalogue and `OnDemand`.
        """
        catalogue = self.catalogue()
        if not version:
            return catalogue.find(name)
        found = catalogue.version(name, version)
        return found if isinstance(found, Served) else await self._on_demand.get(found, deadline)

    def interface(self, served: Served) -> Interface:
        """The version's interface, made once."""
        interface = self._interfaces.get(served)
        if interface is None:
            interface = self._interfaces[served] = Interface.of(served)
        return interface
