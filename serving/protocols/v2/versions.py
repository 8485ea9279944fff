"""Lookup of the versions that the Open Inference Protocol's paths name."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from serving.catalogue import Catalogue, Served
from serving.on_demand import OnDemand
from serving.problem import not_ready
from serving.protocols.v2.model import Interface


class Versions:
    """Champions, which are always loaded, and other versions, which are loaded on demand."""

    def __init__(self, catalogue: Callable[[], Catalogue | None], on_demand: OnDemand) -> None:
        self._catalogue = catalogue
        self._on_demand = on_demand
        self._interfaces: WeakKeyDictionary[Served, Interface] = WeakKeyDictionary()

    def catalogue(self) -> Catalogue:
        """Returns the current snapshot; raises `Problem` 503 before the first."""
        catalogue = self._catalogue()
        if catalogue is None:
            raise not_ready()
        return catalogue

    async def find(self, name: str, version: str, deadline: float) -> Served:
        """Returns the version with a number or an alias, or the champion if `version` is empty.

        Raises `NotFound` and `DeadlineExceeded` like the catalogue and `OnDemand`.
        """
        catalogue = self.catalogue()
        if not version:
            return catalogue.find(name)
        found = catalogue.version(name, version)
        return found if isinstance(found, Served) else await self._on_demand.get(found, deadline)

    def interface(self, served: Served) -> Interface:
        """Returns the version's interface, which is made once."""
        interface = self._interfaces.get(served)
        if interface is None:
            interface = self._interfaces[served] = Interface.of(served)
        return interface
