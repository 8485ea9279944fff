"""Verdicts of the trials of bundles, by digest: in memory, and in a directory for the next start.

    <directory>/<device>-<version of ONNX Runtime>/<digest>.json

A bundle that passed is not tried again. One that took too long, took too much memory or ended its process may
have met a busy machine, so it is tried again: after a minute, then after two, four and so on up to an hour,
since each trial costs a core many seconds. Other refusals are not kept: finding them again is cheap, and the
files may be repaired meanwhile, or be those that a newer zoo reads.
"""

import logging
import os
import time
from collections.abc import Collection
from pathlib import Path

import onnxruntime
from pydantic import BaseModel, ValidationError

from zoo.home import make_directory

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 60.0
LAST_RETRY_SECONDS = 3600.0


class Verdict(BaseModel):
    """Result of a bundle's trial."""

    reason: str | None = None
    """Why the bundle is refused, in words for clients; none where it passed."""
    failures: int = 0
    """Trials that went past a limit, one after the other."""
    retry_at: float = 0.0
    """Seconds since the epoch, after which a refused bundle may be tried again."""


class Verdicts:
    """The verdicts of trials on one device; without a directory they are kept in memory alone."""

    def __init__(self, directory: Path | None, device: str) -> None:
        environment = f"{device}-{onnxruntime.__version__}"
        self._directory = None if directory is None else directory / environment
        self._known: dict[str, Verdict] = {}

    def find(self, digest: str) -> Verdict | None:
        """The verdict that holds now; none where the bundle has to be tried."""
        verdict = self._find(digest)
        if verdict is None or verdict.reason is None:
            return verdict
        due = (
            not 0 <= verdict.retry_at - time.time() <= LAST_RETRY_SECONDS
        )  # the clock may have been set back
        return None if due else verdict

    def passed(self, digest: str) -> None:
        """Keeps that a bundle passed."""
        self._keep(digest, Verdict())

    def went_past_a_limit(self, digest: str, reason: str) -> None:
        """Keeps why a bundle is refused for the time being."""
        before = self._find(digest)
        failures = 0 if before is None else before.failures
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10), LAST_RETRY_SECONDS)
        self._keep(digest, Verdict(reason=reason, failures=failures + 1, retry_at=time.time() + pause))

    def prune(self, needed: Collection[str]) -> None:
        """Forgets all bundles but those with these digests."""
        self._known = {digest: verdict for digest, verdict in list(self._known.items()) if digest in needed}
        if self._directory is not None and self._directory.is_dir():
            for path in self._directory.iterdir():
                if path.stem not in needed:
                    path.unlink(missing_ok=True)

    def _find(self, digest: str) -> Verdict | None:
        if digest not in self._known and self._directory is not None:
            try:
                content = self._path(self._directory, digest).read_bytes()
                self._known[digest] = Verdict.model_validate_json(content)
            except FileNotFoundError:
                pass
            except (OSError, ValidationError) as error:
                log.warning("the kept verdict on the bundle %s cannot be read: %s", digest, error)
        return self._known.get(digest)

    def _keep(self, digest: str, verdict: Verdict) -> None:
        self._known[digest] = verdict
        if self._directory is None:
            return
        path = self._path(self._directory, digest)
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            make_directory(path.parent)
            partial.write_text(verdict.model_dump_json(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            log.warning("cannot keep the verdict on a bundle, which the next start will try again: %s", error)

    @staticmethod
    def _path(directory: Path, digest: str) -> Path:
        return directory / f"{digest}.json"
