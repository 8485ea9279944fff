"""Bundles on this machine's disk that passed their checks, and the last listing: what a restart can do with.

    <directory>/listing.json        the versions that the source held when it was last read
    <directory>/bundles/<digest>/   one bundle each; its files are checked again whenever it is loaded

Everything appears at once and complete, by renaming. The cache is never needed while the source is there, so
a disk that is full or read-only is logged, and nothing else.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

from pydantic import TypeAdapter

from serving.source import Listing
from zoo.bundle import MANIFEST, Bundle
from zoo.file_access import denial
from zoo.home import make_directory

log = logging.getLogger(__name__)

LISTINGS = TypeAdapter(Listing)
PARTIAL = ".partial-"
ABANDONED_SECONDS = 3600.0  # after which nobody is still writing what is not complete


class BundleCache:
    """The cache of one source, in a directory that is made when there is something to keep."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._bundles = directory / "bundles"
        self._listing = directory / "listing.json"

    @property
    def holds_listing(self) -> bool:
        """Whether the source was ever read."""
        return self._listing.exists()

    def listing(self) -> Listing | None:
        """What the source held when it was last read; none where that is not known."""
        try:
            return LISTINGS.validate_json(self._listing.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("the cached listing %s cannot be read: %s", self._listing, error)
            return None

    def bundle(self, digest: str | None) -> Path | None:
        """The directory with the bundle, where it is here."""
        if digest is None:
            return None
        directory = self._bundles / digest
        return directory if directory.is_dir() else None

    def keep_listing(self, listing: Listing) -> None:
        """Replaces the listing."""

        def write() -> None:
            make_directory(self.directory)
            partial = self.directory / f"{PARTIAL}{os.getpid()}"
            partial.write_bytes(LISTINGS.dump_json(listing))
            partial.replace(self._listing)

        _tried(write)

    def keep(self, bundle: Bundle) -> None:
        """Copies a bundle that was just checked. A link would change with the file that it is one of."""
        target = self._bundles / bundle.digest
        if target.exists():
            return

        def write() -> None:
            make_directory(self._bundles)
            partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self._bundles))
            try:
                for name in (MANIFEST, *bundle.manifest.files):
                    shutil.copyfile(bundle.directory / name, partial / name)
                partial.replace(target)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise

        _tried(write)

    def discard(self, digest: str) -> bool:
        """Deletes a bundle; returns whether it is gone."""
        shutil.rmtree(self._bundles / digest, ignore_errors=True)
        return not (self._bundles / digest).exists()

    def prune(self, needed: Collection[str]) -> None:
        """Deletes every bundle but those with these digests, and what a process that was killed left half."""
        if not self._bundles.is_dir():
            return
        for path in self._bundles.iterdir():
            if path.name not in needed and not (path.name.startswith(PARTIAL) and _is_recent(path)):
                self.discard(path.name)


def _tried(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        reason = denial(error) or error
        log.warning("bundles are not cached for a start without the registry: %s", reason)


def _is_recent(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < ABANDONED_SECONDS
    except FileNotFoundError:
        return False
