"""Local cache of checked bundles and of the last listing, so that the service can restart without its source.

    <directory>/listing.json        the versions that the source held when it was last read
    <directory>/bundles/<digest>/   one bundle each; its files are checked again whenever it is loaded

Files and bundles are written under a temporary name and renamed, so that none is ever incomplete. The cache
is not needed while the source can be read, so a full or read-only disk is only logged.
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
ABANDONED_SECONDS = 3600.0  # age from which a partial file or folder counts as abandoned


class BundleCache:
    """Cache of one source, in a directory that is created when the first entry is written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._bundles = directory / "bundles"
        self._listing = directory / "listing.json"

    @property
    def holds_listing(self) -> bool:
        """True if the source was ever read."""
        return self._listing.exists()

    def listing(self) -> Listing | None:
        """Returns the listing of the source when it was last read; None if it is not known."""
        try:
            return LISTINGS.validate_json(self._listing.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("the cached listing %s cannot be read: %s", self._listing, error)
            return None

    def bundle(self, digest: str | None) -> Path | None:
        """Returns the directory of a cached bundle; None if it is not cached."""
        if digest is None:
            return None
        directory = self._bundles / digest
        return directory if directory.is_dir() else None

    def keep_listing(self, listing: Listing) -> None:
        """Replaces the cached listing."""

        def write() -> None:
            make_directory(self.directory)
            partial = self.directory / f"{PARTIAL}{os.getpid()}"
            partial.write_bytes(LISTINGS.dump_json(listing))
            partial.replace(self._listing)

        _tried(write)

    def keep(self, bundle: Bundle) -> None:
        """Copies a bundle that was just checked. A link would change with the original file."""
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
        """Deletes a bundle; returns True if it is gone."""
        shutil.rmtree(self._bundles / digest, ignore_errors=True)
        return not (self._bundles / digest).exists()

    def prune(self, needed: Collection[str]) -> None:
        """Deletes all bundles but those with these digests, and abandoned partial copies."""
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
