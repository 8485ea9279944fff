"""Follows a source of versions: loads each new champion, then swaps the catalogue in one step.

Challengers are loaded like champions. The previous champion stays loaded, so that it can be swapped back at
once. Other versions are loaded on request, with the same checks.
"""

import gc
import logging
import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from serving.bundle_cache import BundleCache
from serving.catalogue import Catalogue, Challenge, Served, VersionEntry
from serving.engine import Engine, LoadedModel
from serving.source import Listing, Source, Version
from zoo.credentials import hide_credentials
from zoo.errors import BundleError, NotFound, PastLimit, ZooError
from zoo.version import CHALLENGER, CHAMPION

log = logging.getLogger(__name__)

LONGEST_PAUSE = 4.0  # seconds between two attempts: a source that recovers is read within 5 s
# A version that cannot be loaded is tried again: its files may be repaired, and its store may recover.
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0

Role = tuple[str, str]
"""Registered model, and the role of a version: CHAMPION or CHALLENGER."""


@dataclass(frozen=True)
class Refusal:
    """Failure to load a version."""

    reason: str
    """Reason, shown to clients."""
    pause: float
    """Seconds until the next attempt; doubles with each failure."""
    retry_at: float
    """Time of the next attempt, on `time.monotonic()`."""


class Follower:
    """Thread that keeps `catalogue` up to date with a source; the catalogue is None until there is a listing.

    While the source cannot be reached, or if a new champion fails its checks, the old one stays in service.
    If the source cannot be reached at the start, the cached listing is served.
    """

    def __init__(self, source: Source, engine: Engine, interval: float, cache: BundleCache | None) -> None:
        self.catalogue: Catalogue | None = None
        self.read_at: float | None = None
        """Time of the last successful read of the source, on `time.monotonic()`."""
        self.from_cache = False
        """True if the catalogue comes from the cache, because the source could not be read."""
        self._source = source
        self._engine = engine
        self._interval = interval
        self._cache = cache
        self._listing: Listing | None = None
        self._held: dict[Role, Served] = {}
        self._previous: dict[str, Served] = {}
        """Previous champion by model."""
        self._resident: dict[tuple[str, str], Served] = {}
        """Held and previous versions by model and number, which are reused without loading."""
        self._refusals: dict[tuple[str, str], Refusal] = {}
        self._attempted: dict[Role, str] = {}
        self._refusals_changed = threading.Event()  # since the catalogue was created
        self.problem: str | None = None
        """Reason why the source cannot be read, as logged; None if the last read succeeded."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread after its current step."""
        self._stop.set()

    def load(self, version: Version) -> Served:
        """Loads a version with a champion's checks. Raises `NotFound` with the reason if it is refused.

        Blocks while it loads, unless the version is already loaded or was refused a short time ago.
        """
        refusal = self._refusals.get((version.model, version.number))
        if refusal is None or time.monotonic() > refusal.retry_at:
            outcome = self._load(version)
            self._engine.trials.rest()
        else:
            outcome = refusal
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
                problem = hide_credentials(str(error))
                if problem != self.problem:
                    text = "%s cannot be read, and is tried again within %.0f s: %s"
                    log.warning(text, self._source.described, LONGEST_PAUSE, problem)
                self.problem = problem

    def _step(self) -> None:
        try:
            listing = self._source.read()
        except Exception:
            if self.catalogue is None:
                self._start_from_cache()
            raise
        self.read_at = time.monotonic()
        self.from_cache = False
        if self.problem is not None:
            self.problem = None
            log.info("%s can be read again", self._source.described)
        self._take(listing)

    def _start_from_cache(self) -> None:
        listing = None if self._cache is None else self._cache.listing()
        if listing is not None:
            self.from_cache = True
            log.warning("serving what the registry held when it was last read, from the local cache")
            self._take(listing)

    def _take(self, listing: Listing) -> None:
        """Updates the held versions and the catalogue to a listing."""
        wanted = _wanted(listing)
        waiting = [(role, version) for role, version in wanted.items() if self._is_due(role, version)]
        if listing == self._listing and not waiting and not self._refusals_changed.is_set():
            return
        self._held = {role: served for role, served in self._held.items() if _may_stay(role, served, wanted)}
        for role, version in waiting:
            if isinstance(served := self._load(version, keep=True), Served):
                self._hold(role, served)
            if self.catalogue is not None:  # one version at a time, except for the first listing
                self._publish(listing, wanted)
        self._engine.trials.rest()
        self._attempted = {role: version.number for role, version in wanted.items()}
        self._previous = {m: served for m, served in self._previous.items() if (m, CHAMPION) in wanted}
        resident = [*self._held.values(), *self._previous.values()]
        self._resident = {(served.manifest.model, served.version): served for served in resident}
        if self._cache is not None and not self.from_cache and listing != (self._listing or Listing()):
            self._cache.keep_listing(listing)
            listed = {version.digest for version in wanted.values() if version.digest is not None}
            self._cache.prune(listed | {served.loaded.bundle.digest for served in resident})
            registered = (version.digest for versions in listing.versions.values() for version in versions)
            self._engine.trials.verdicts.prune({digest for digest in registered if digest is not None})
        if self.catalogue is None:
            # These objects stay: exclude them from later collections, which would pause the requests.
            # Not repeated for later versions, as current garbage would be kept, too.
            gc.collect()
            gc.freeze()
        self._publish(listing, wanted)  # last, so that a ready service can restart without the source
        self._listing = listing

    def _hold(self, role: Role, served: Served) -> None:
        model, kind = role
        if kind == CHAMPION and role in self._held:
            self._previous[model] = replace(self._held[role], challenge=None)
        self._held[role] = served
        log.info("%s version %s is %s", model, served.version, "served" if kind == CHAMPION else kind)

    def _is_due(self, role: Role, version: Version) -> bool:
        served = self._held.get(role)
        if served is not None and _is(served, version):
            return False
        refusal = self._refusals.get((version.model, version.number))
        just_named = self._attempted.get(role) != version.number
        return refusal is None or just_named or time.monotonic() > refusal.retry_at

    def _load(self, version: Version, keep: bool = False) -> Served | Refusal:
        """Returns the version, loaded if necessary; with `keep`, stores its bundle in the cache."""
        key = (version.model, version.number)
        resident = self._resident.get(key)
        if resident is not None and version.passed and _is(resident, version):
            return resident
        try:
            served = Served(self._checked(version, keep), version.number)
            served.details(served.entry(version.model), [])  # the graph may have inputs that cannot be listed
        except Exception as error:
            self._refuse(key, error)
            return self._refusals[key]
        if self._refusals.pop(key, None) is not None:
            self._refusals_changed.set()
        return served

    def _refuse(self, key: tuple[str, str], error: Exception) -> None:
        """Records why a version could not be loaded, and logs the reason if it has changed."""
        reason, detail = str(error), f": {error.__cause__}" if error.__cause__ is not None else ""
        if not isinstance(error, ZooError):  # such as a device out of memory: a library's message
            reason = f"it could not be loaded ({type(error).__name__})"
            detail = f"\n{''.join(traceback.format_exception(error))}"
        before = self._refusals.get(key)
        pause = FIRST_RETRY_SECONDS if before is None else min(2 * before.pause, LAST_RETRY_SECONDS)
        if before is None or before.reason != reason:
            text = "%s version %s is refused, and tried again within %.0f s: %s%s"
            log.error(text, *key, LAST_RETRY_SECONDS, reason, hide_credentials(detail))
        self._refusals[key] = Refusal(reason, pause, time.monotonic() + pause)
        self._refusals_changed.set()

    def _checked(self, version: Version, keep: bool) -> LoadedModel:
        if not version.passed:
            raise BundleError(version.reason)
        if self._cache is not None and (cached := self._cache.bundle(version.digest)) is not None:
            try:
                return self._opened(version, cached)
            except PastLimit:
                raise  # perhaps because of a busy machine: its files are intact
            except BundleError as error:
                if _is_unreadable(error):
                    what = "stays"
                else:
                    what = "is deleted" if self._cache.discard(cached.name) else "cannot be deleted"
                log.error("the cached bundle %s is refused and %s: %s", cached, what, error)
        with self._source.bundle(version) as directory:
            loaded = self._opened(version, directory)
            if keep and self._cache is not None:
                self._cache.keep(loaded.bundle)
        return loaded

    def _opened(self, version: Version, directory: Path) -> LoadedModel:
        loaded = self._engine.load(directory)
        if version.digest not in (None, loaded.bundle.digest):
            raise BundleError("the bundle is not the one that was registered: its digest is another")
        if loaded.bundle.manifest.model != version.model:
            raise BundleError(f"the bundle is one of {loaded.bundle.manifest.model}")
        return loaded

    def _publish(self, listing: Listing, wanted: dict[Role, Version]) -> None:
        self._refusals_changed.clear()
        for role, champion in self._held.items():
            if role[1] == CHAMPION:
                challenge = self._challenge(champion, wanted)
                if champion.challenge != challenge:
                    self._held[role] = replace(champion, challenge=challenge)
        versions = {
            name: [self._entry(version) for version in listing.versions[name]] for name in listing.versions
        }
        champions = [served for (_, kind), served in self._held.items() if kind == CHAMPION]
        self.catalogue = Catalogue(champions, listing, versions)

    def _challenge(self, champion: Served, wanted: dict[Role, Version]) -> Challenge | None:
        """Returns the challenge to a champion; None if the tasks differ or the outputs cannot be compared."""
        role = (champion.manifest.model, CHALLENGER)
        challenger = self._held.get(role)
        mode = None if challenger is None else wanted[role].challenge
        if challenger is None or mode is None or type(challenger.task) is not type(champion.task):
            return None
        return Challenge(challenger, mode) if mode.share or champion.task.alike is not None else None

    def _entry(self, version: Version) -> VersionEntry:
        served = self._held.get((version.model, CHAMPION))
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


def _wanted(listing: Listing) -> dict[Role, Version]:
    """Returns all champions, then all challengers."""
    versions = [version for versions in listing.versions.values() for version in versions]
    champions = {(v.model, CHAMPION): v for v in versions if CHAMPION in v.aliases}
    return champions | {(v.model, CHALLENGER): v for v in versions if v.challenge is not None}


def _may_stay(role: Role, served: Served, wanted: dict[Role, Version]) -> bool:
    """Returns True if a version keeps its role: a champion does until the next one is loaded."""
    return role in wanted and (role[1] == CHAMPION or _is(served, wanted[role]))


def _is(served: Served, version: Version) -> bool:
    """Returns True if a listed version is the one that was loaded."""
    return served.version == version.number and version.digest in (None, served.loaded.bundle.digest)


def _is_unreadable(error: BundleError) -> bool:
    """Returns True if a bundle's files exist but cannot be read now, so that they may be intact."""
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
