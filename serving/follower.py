"""Follows a source of versions: loads what becomes champion, then swaps the catalogue in one step.

A challenger is loaded as a champion is, and the champion before this one stays loaded, to be swapped back at
once. Other versions are loaded when they are asked for, by the same checks.
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

LONGEST_PAUSE = 4.0  # seconds between two attempts: a source that is back is followed within 5 s
# A version that cannot be loaded is tried again: its files may be repaired, and its store may come back.
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0

Role = tuple[str, str]
"""Registered model, and what a version of it is: CHAMPION or CHALLENGER."""


@dataclass(frozen=True)
class Refusal:
    """Why a version could not be loaded."""

    reason: str
    """In words for clients."""
    pause: float
    """Seconds until it may be tried again; twice as many each time."""
    retry_at: float
    """On `time.monotonic()`."""


class Follower:
    """A thread that keeps `catalogue` in step with a source; None until the source was read once.

    While the source cannot be reached, and where a new champion fails its checks, the old one serves on.
    Where it cannot be reached at the start, what the cache holds is served.
    """

    def __init__(self, source: Source, engine: Engine, interval: float, cache: BundleCache | None) -> None:
        self.catalogue: Catalogue | None = None
        self.read_at: float | None = None
        """When the source was last read, on `time.monotonic()`."""
        self.from_cache = False
        """Whether what is served is what the cache says, for want of the source."""
        self._source = source
        self._engine = engine
        self._interval = interval
        self._cache = cache
        self._listing: Listing | None = None
        self._held: dict[Role, Served] = {}
        self._previous: dict[str, Served] = {}
        """By model, the champion before."""
        self._resident: dict[tuple[str, str], Served] = {}
        """By model and number, everything held and previous: to be had again without loading."""
        self._refusals: dict[tuple[str, str], Refusal] = {}
        self._attempted: dict[Role, str] = {}
        self._refusals_changed = threading.Event()  # since the catalogue was made
        self.problem: str | None = None
        """Why the source cannot be read, as it was logged; none where it was read."""
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

        Takes as long as it takes to load it, unless it is loaded or was refused a short time ago.
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
        """Brings what is held, and the catalogue, in step with a listing."""
        wanted = _wanted(listing)
        waiting = [(role, version) for role, version in wanted.items() if self._is_due(role, version)]
        if listing == self._listing and not waiting and not self._refusals_changed.is_set():
            return
        self._held = {role: served for role, served in self._held.items() if _may_stay(role, served, wanted)}
        for role, version in waiting:
            if isinstance(served := self._load(version, keep=True), Served):
                self._hold(role, served)
            if self.catalogue is not None:  # one after the other, but all before the service is ready
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
            # What is there now stays: keep it out of every later collection, which would stop the requests.
            # Not again for later versions, as the garbage of the moment would stay, too.
            gc.collect()
            gc.freeze()
        self._publish(listing, wanted)  # what is ready can be started again without the source
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
        """The version, which is loaded unless it is; `keep` has the cache keep its bundle."""
        key = (version.model, version.number)
        resident = self._resident.get(key)
        if resident is not None and version.passed and _is(resident, version):
            return resident
        try:
            served = Served(self._checked(version, keep), version.number)
            served.details(served.entry(version.model), [])  # a graph may have inputs that cannot be listed
        except Exception as error:
            self._refuse(key, error)
            return self._refusals[key]
        if self._refusals.pop(key, None) is not None:
            self._refusals_changed.set()
        return served

    def _refuse(self, key: tuple[str, str], error: Exception) -> None:
        """Keeps why a version could not be loaded, and logs it where it is another reason than before."""
        reason, detail = str(error), f": {error.__cause__}" if error.__cause__ is not None else ""
        if not isinstance(error, ZooError):  # such as a device that is out of memory: the text is a library's
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
                raise  # perhaps for a busy machine: its files are whole
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
        """What competes with a champion: nothing of another kind of task, or without anything to compare."""
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
    """Every champion, then every challenger."""
    versions = [version for versions in listing.versions.values() for version in versions]
    champions = {(v.model, CHAMPION): v for v in versions if CHAMPION in v.aliases}
    return champions | {(v.model, CHALLENGER): v for v in versions if v.challenge is not None}


def _may_stay(role: Role, served: Served, wanted: dict[Role, Version]) -> bool:
    """Whether what holds a role goes on with it: a champion until the next one is loaded."""
    return role in wanted and (role[1] == CHAMPION or _is(served, wanted[role]))


def _is(served: Served, version: Version) -> bool:
    """Whether a listed version is the one that was loaded."""
    return served.version == version.number and version.digest in (None, served.loaded.bundle.digest)


def _is_unreadable(error: BundleError) -> bool:
    """Returns True if a bundle's files are there but cannot be read now, so that they may be whole."""
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
