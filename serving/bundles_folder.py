"""Source of versions in a folder of exported bundles, for a service without a registry and without MLflow."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from serving.source import Listing, Version
from zoo.bundle import MANIFEST, MOST_MANIFEST_BYTES, parse_manifest
from zoo.bundle_files import content
from zoo.errors import BundleError, ZooError
from zoo.file_access import denial
from zoo.version import CHAMPION, VersionRecord

log = logging.getLogger(__name__)


class Origin(BaseModel):
    """Contents of `origin.json` beside a bundle: the registered version it was exported from."""

    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]
    record: VersionRecord


class BundlesFolder:
    """Bundles in a directory and its subdirectories, listed once, as soon as there is at least one.

    The newest version of a model that passed its gate is its champion.
    """

    described = "the folder of bundles"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._places: dict[tuple[str, str], Path] = {}
        self._listing: Listing | None = None
        self._no_bundles: set[Path] = set()
        """Folders already logged as invalid."""

    def read(self) -> Listing:
        if self._listing is None:
            self._listing = self._scan()
        return self._listing

    @contextmanager
    def bundle(self, version: Version) -> Iterator[Path]:
        yield self._places[version.model, version.number]

    def _scan(self) -> Listing:
        found: dict[str, list[Version]] = {}
        for folder in self._folders():
            try:
                version = _version(folder)
            except (BundleError, ValidationError) as error:
                if folder not in self._no_bundles:
                    log.error("%s is not a bundle: %s", folder, error)
                self._no_bundles.add(folder)
                continue
            self._places[version.model, version.number] = folder
            found.setdefault(version.model, []).append(version)
        if not found:
            raise ZooError(f"no bundle is below {self.directory}; `zoo export NAME DIRECTORY` writes one")
        return Listing({name: _with_champion(versions) for name, versions in found.items()})

    def _folders(self) -> list[Path]:
        """Returns the folders that have a manifest; raises `ZooError` if a folder cannot be read."""
        walk = os.walk(self.directory, onerror=_raise)
        return sorted(Path(folder) for folder, _, names in walk if MANIFEST in names)


def _raise(error: OSError) -> None:
    raise ZooError(denial(error) or str(error))


def _version(directory: Path) -> Version:
    manifest = parse_manifest(content(directory / MANIFEST, MOST_MANIFEST_BYTES))
    origin_path = directory / "origin.json"
    if not origin_path.exists():
        return Version(manifest.model, "1", (), True, "", manifest.metrics, None)
    origin = Origin.model_validate_json(content(origin_path, MOST_MANIFEST_BYTES))
    record = origin.record
    passed = record.gate == "passed"
    return Version(
        manifest.model, origin.version, (), passed, record.gate_reason, record.metrics, record.digest
    )


def _with_champion(versions: list[Version]) -> tuple[Version, ...]:
    newest_first = sorted(versions, key=lambda version: -int(version.number))
    champion = next((v for v in newest_first if v.passed), None)
    return tuple(
        replace(version, aliases=(CHAMPION,)) if version is champion else version for version in newest_first
    )
