"""Verdicts of bundle trials by digest, in memory and in a directory for the next start.

    <directory>/<device>-<version of ONNX Runtime>/<digest>.json

A bundle that passed is not tried again. If it took too long, took too much memory or crashed its process, the
reason may have been a busy machine, so it is tried again: after one minute, then two, four and so on up to an
hour, as each trial costs many seconds of CPU time. Other refusals are not stored: they are cheap to find
again, and the files may have been repaired, or may be readable for a newer version of the zoo.
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
    """Reason why the bundle is refused, shown to clients; None if it passed."""
    failures: int = 0
    """Number of consecutive trials that exceeded a limit."""
    retry_at: float = 0.0
    """Time from which a refused bundle may be tried again, in seconds since the epoch."""


class Verdicts:
    """Verdicts of trials on one device; without a directory they are kept in memory only."""

    def __init__(self, directory: Path | None, device: str) -> None:
        environment = f"{device}-{onnxruntime.__version__}"
        self._directory = None if directory is None else directory / environment
        self._known: dict[str, Verdict] = {}

    def find(self, digest: str) -> Verdict | None:
        """Returns the verdict that holds now; None if the bundle has to be tried."""
        verdict = self._find(digest)
        if verdict is None or verdict.reason is None:
            return verdict
        due = (
            not 0 <= verdict.retry_at - time.time() <= LAST_RETRY_SECONDS
        )  # the clock may have been set back
        return None if due else verdict

    def passed(self, digest: str) -> None:
        """Records that a bundle passed."""
        self._keep(digest, Verdict())

    def went_past_a_limit(self, digest: str, reason: str) -> None:
        """Records that a trial exceeded a limit, and sets the time of the next trial."""
        before = self._find(digest)
        failures = 0 if before is None else before.failures
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10), LAST_RETRY_SECONDS)
        self._keep(digest, Verdict(reason=reason, failures=failures + 1, retry_at=time.time() + pause))

    def prune(self, needed: Collection[str]) -> None:
        """Deletes all verdicts but those with these digests."""
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
