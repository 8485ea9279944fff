"""Follows a source of versions: loads what becomes champion, then swaps the catalogue in one step.

Other versions are loaded when they are asked for, by the same checks.
"""

import gc
import logging
import threading
import time
from dataclasses import dataclass
from typing import Literal

from serving.catalogue import Catalogue, Served, VersionEntry
from serving.engine import Engine, LoadedModel
from serving.source import Listing, Source, Version
from zoo.errors import BundleError, NotFound
from zoo.version import CHAMPION

log = logging.getLogger(__name__)

LONGEST_PAUSE = 4.0  # seconds between two attempts: a source that is back is followed within 5 s
RETRY_SECONDS = 60.0  # a version that failed its checks is tried again, should its files be repaired


@dataclass(frozen=True)
class Refusal:
    """Why a version could not be loaded."""

    reason: str
    retry_at: float
    """On `time.monotonic()`."""


class Follower:
    """A thread that keeps `catalogue` in step with a source; None until the source was read once.

    While the source cannot be reached, and where a new champion fails its checks, the old one serves on.
    """

    def __init__(self, source: Source, engine: Engine, interval: float) -> None:
        self.catalogue: Catalogue | None = None
        self.read_at: float | None = None
        """When the source was last read, on `time.monotonic()`."""
        self._source = source
        self._engine = engine
        self._interval = interval
        self._listing: Listing | None = None
        self._served: dict[str, Served] = {}
        self._refusals: dict[tuple[str, str], Refusal] = {}
        self._attempted: dict[str, str] = {}
        self._refusals_changed = threading.Event()  # since the catalogue was made
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step that it is at."""
        self._stop.set()

    def load(self, version: Version) -> Served:
        """A version that passed its gate, checked as a champion is; `NotFound` says why it is refused.

        Takes as long as it takes to load it, unless it was refused a short time ago.
        """
        refusal = self._refusals.get((version.model, version.number))
        outcome = self._load(version) if refusal is None or time.monotonic() > refusal.retry_at else refusal
        if isinstance(outcome, Refusal):
            raise NotFound(f"version {version.number} of {version.model!r} is refused: {outcome.reason}")
        return outcome

    def _follow(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                self._step()
                pause = self._interval
            except Exception as error:
                pause = min(max(2 * pause, self._interval), LONGEST_PAUSE)
                log.warning("the registry cannot be read, next try in %.0f s: %s", pause, error)

    def _step(self) -> None:
        listing = self._source.read()
        self.read_at = time.monotonic()
        champions = {v.model: v for vs in listing.versions.values() for v in vs if CHAMPION in v.aliases}
        waiting = [v for v in champions.values() if self._is_due(v)]
        if listing == self._listing and not waiting and not self._refusals_changed.is_set():
            return
        self._served = {name: served for name, served in self._served.items() if name in champions}
        for version in waiting:
            if isinstance(served := self._load(version), Served):
                self._served[version.model] = served
                log.info("%s version %s is served", version.model, version.number)
            if self.catalogue is not None:  # one after the other, but all before the service is ready
                self._publish(listing)
        self._attempted = {name: version.number for name, version in champions.items()}
        self._listing = listing
        self._publish(listing)
        # What is there now stays: keep it out of every later collection, which would stop the requests.
        gc.freeze()

    def _is_due(self, version: Version) -> bool:
        served = self._served.get(version.model)
        if served is not None and served.version == version.number:
            return False
        refusal = self._refusals.get((version.model, version.number))
        just_promoted = self._attempted.get(version.model) != version.number
        return refusal is None or just_promoted or time.monotonic() > refusal.retry_at

    def _load(self, version: Version) -> Served | Refusal:
        key = (version.model, version.number)
        try:
            loaded = self._checked(version)
        except BundleError as error:
            refusal = Refusal(str(error), time.monotonic() + RETRY_SECONDS)
            log.error("%s version %s is refused: %s", *key, error)
        except Exception as error:  # a store that cannot be reached, a device that is out of memory
            reason = f"could not be loaded: {type(error).__name__}"
            refusal = Refusal(reason, time.monotonic() + LONGEST_PAUSE)
            log.exception("%s version %s could not be loaded", *key)
        else:
            if self._refusals.pop(key, None) is not None:
                self._refusals_changed.set()
            return Served(loaded, version.number)
        self._refusals[key] = refusal
        self._refusals_changed.set()
        return refusal

    def _checked(self, version: Version) -> LoadedModel:
        if not version.passed:
            raise BundleError(version.reason)
        with self._source.bundle(version) as directory:
            try:
                loaded = self._engine.load(directory)
            except BundleError as error:
                # The reason is shown to clients, and where the files lie is not theirs to know.
                raise BundleError(str(error).replace(f"{directory}/", "")) from error
        if version.digest not in (None, loaded.bundle.digest):
            raise BundleError("the bundle is not the one that was registered: its digest is another")
        if loaded.bundle.manifest.model != version.model:
            raise BundleError(f"the bundle is one of {loaded.bundle.manifest.model}")
        return loaded

    def _publish(self, listing: Listing) -> None:
        self._refusals_changed.clear()
        versions = {
            name: [self._entry(version) for version in listing.versions[name]] for name in listing.versions
        }
        self.catalogue = Catalogue(self._served.values(), listing, versions)

    def _entry(self, version: Version) -> VersionEntry:
        served = self._served.get(version.model)
        refusal = self._refusals.get((version.model, version.number))
        state: Literal["serving", "available", "refused"] = "available"
        if served is not None and served.version == version.number:
            state = "serving"
        elif refusal is not None or not version.passed:
            state = "refused"
        return VersionEntry(
            version=version.number,
            aliases=list(version.aliases),
            state=state,
            reason=refusal.reason if refusal is not None else version.reason,
            metrics=version.metrics,
        )
