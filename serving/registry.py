"""Source of versions in the MLflow registry. The only module in serving that depends on MLflow.

The registry's conventions are in `zoo.version`. Needs only `mlflow-skinny`, and also SQLAlchemy and alembic
if the registry is a database.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from serving.artifact_roots import SQLITE, is_within, local_path, own_roots
from serving.source import Listing, Version
from zoo import bundle
from zoo.credentials import without_credentials
from zoo.errors import BundleError, InvalidInput, ZooError
from zoo.version import CHALLENGER, CHALLENGER_MODE, CHAMPION, COPY_OF_MODEL, ChallengerMode, VersionRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList

T = TypeVar("T")

DEFAULT_EXPERIMENT = "0"  # exists in every store from the start
PAGE = 1000  # entries per request: MLflow's upper limit for registered models


class RegistryUnavailable(ZooError):
    """The registry cannot be read now."""


class Registry:
    """MLflow registry at a tracking URI."""

    described = "the registry"

    def __init__(self, uri: str, was_read: bool, sources: Sequence[str] = ()) -> None:
        """`was_read` is True if it was read before: a missing local database is then an error.

        Files of versions are only read below the store's own roots and below `sources`, which are URIs or
        paths.
        """
        self.uri = uri
        self._was_read = was_read
        self._sources = sources
        self._client: MlflowClient | None = None
        self._probe: sqlite3.Connection | None = None
        self._file: int | None = None
        """Inode of the database file that the probe reads."""
        self._last: tuple[int, Listing] | None = None
        """SQLite's data version at the last read, and the listing then; SQLite registries only."""

    def read(self) -> Listing:
        """Returns the current listing; an empty one while there is no local database yet."""
        if self.uri.startswith(SQLITE):
            return self._read_sqlite(Path(self.uri.removeprefix(SQLITE)).absolute())
        return self._read()

    def _read_sqlite(self, database: Path) -> Listing:
        """Reads MLflow only if SQLite reports a write, as the check is a thousand times faster."""
        if not database.exists():
            if self._probe is None and not self._was_read:
                _tables()  # imports MLflow, which takes seconds, before the first version exists
                return Listing()  # MLflow would create one, and collide with another process that does
            raise RegistryUnavailable("the registry's database is gone")
        file = database.stat().st_ino
        if self._probe is None or file != self._file:  # the file may be replaced, as by a backup
            self._file, self._last = file, None
            self._probe = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
            self._probe.isolation_level = None
        if self._client is None:
            _require_tables(self._probe)
        (written,) = self._probe.execute("PRAGMA data_version").fetchone()
        if self._last is None or self._last[0] != written:
            self._last = (written, self._read())
        return self._last[1]

    def _read(self) -> Listing:
        if self._client is None:
            self._client = _connect(self.uri)
        client = self._client
        aliases = {model.name: dict(model.aliases) for model in _pages(client.search_registered_models)}
        found: dict[str, list[ModelVersion]] = {}
        for version in _pages(client.search_model_versions):
            found.setdefault(version.name, []).append(version)
        listing = Listing()
        for name, versions in sorted(found.items()):
            if not any(VersionRecord.model_fields.keys() & version.tags.keys() for version in versions):
                continue  # a model that is not the zoo's
            champion = aliases.get(name, {}).get(CHAMPION)
            if any(COPY_OF_MODEL in version.tags for version in versions):
                tags = {str(version.version): version.tags for version in versions}
                if COPY_OF_MODEL in tags.get(str(champion), {}):
                    listing.data_sets[name] = tags[str(champion)][COPY_OF_MODEL]
                continue
            newest_first = sorted(versions, key=lambda version: -int(version.version))
            listing.versions[name] = tuple(_version(v, aliases.get(name, {})) for v in newest_first)
        return listing

    @contextmanager
    def bundle(self, version: Version) -> Iterator[Path]:
        if self._client is None:
            raise RegistryUnavailable("the registry was not read yet")
        with _unavailable("the registry does not say where its files are"):
            uri = self._client.get_model_version_download_uri(version.model, version.number)
        if not is_within(uri, [*self._sources, *own_roots(self.uri, self._default_location())]):
            moved = "" if local_path(uri) is None else "; was its folder moved, or mounted elsewhere?"
            reason = "its files lie outside the tracking store and outside ZOO_SOURCES" + moved
            raise BundleError(reason) from ZooError(uri)
        if (local := local_path(uri)) is not None:
            yield local  # read in place: a copy would have to be cleaned up
            return
        with tempfile.TemporaryDirectory(prefix="zoo-bundle-") as copy:
            with _unavailable("its files cannot be fetched"):
                _fetch(uri, Path(copy))
            yield Path(copy)

    def _default_location(self) -> str | None:
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        try:
            return str(self._client.get_experiment(DEFAULT_EXPERIMENT).artifact_location)
        except MlflowException:  # for example if it was permanently deleted
            return None


@contextmanager
def _unavailable(reason: str) -> Iterator[None]:
    """Converts any exception of a store to `RegistryUnavailable`, as each store has its own exceptions."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        raise RegistryUnavailable(reason) from error


def _fetch(uri: str, folder: Path) -> None:
    """Downloads the files that a bundle's manifest names. Raises `BundleError` if they are too large."""
    from mlflow.artifacts import download_artifacts, list_artifacts

    listed = {PurePosixPath(file.path).name: file.file_size for file in list_artifacts(artifact_uri=uri)}
    _require_size(listed, [bundle.MANIFEST], bundle.MOST_MANIFEST_BYTES)
    manifest = download_artifacts(artifact_uri=f"{uri}/{bundle.MANIFEST}", dst_path=str(folder))
    names = bundle.parse_manifest(Path(manifest).read_bytes()).files
    _require_size(listed, names, bundle.MOST_BYTES)
    for name in names:
        download_artifacts(artifact_uri=f"{uri}/{name}", dst_path=str(folder))


def _require_size(listed: dict[str, int | None], names: Iterable[str], most: int) -> None:
    """Raises `BundleError` unless all of these files are listed, with at most `most` bytes in total."""
    sizes = {name: listed.get(name) for name in names}
    if missing := sorted(name for name, size in sizes.items() if size is None):
        raise BundleError(f"the store does not list {', '.join(missing)} with a size")
    if (total := sum(size or 0 for size in sizes.values())) > most:
        raise BundleError(f"{', '.join(sorted(sizes))}: {total} bytes together; at most {most} are fetched")


def _connect(uri: str) -> "MlflowClient":
    # MLflow would retry for minutes inside one call; the follower does its own retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if uri.startswith(SQLITE):  # a pool would keep reading a database file that was replaced
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    import mlflow

    uri = without_credentials(uri)
    mlflow.set_tracking_uri(uri)  # artifact repositories use the global URI
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _require_tables(database: sqlite3.Connection) -> None:
    """Raises `RegistryUnavailable` until all tables exist.

    MLflow would create missing tables, and collide with the process that is just creating them.
    """
    found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not found.issuperset(_tables()):
        raise RegistryUnavailable("the registry's database is still being created")


def _tables() -> set[str]:
    """Returns the names of the tables in an MLflow database. The first call imports MLflow."""
    import mlflow.store.model_registry.sqlalchemy_store  # noqa: F401 - declares the tables
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def _pages(search: "Callable[..., PagedList[T]]") -> Iterator[T]:
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(version: "ModelVersion", aliases: dict[str, str]) -> Version:
    number = str(version.version)
    names = tuple(sorted(alias for alias, target in aliases.items() if str(target) == number))
    try:
        record = VersionRecord.from_tags(version.tags)
    except (ValidationError, ValueError):
        return Version(version.name, number, names, False, "its tags are not complete", {}, None)
    passed = record.gate == "passed"
    return Version(
        version.name,
        number,
        names,
        passed,
        record.gate_reason,
        record.metrics,
        record.digest,
        _challenge(version.tags) if CHALLENGER in names and CHAMPION not in names else None,
    )


def _challenge(tags: dict[str, str]) -> ChallengerMode | None:
    """Returns the challenger mode in a version's tags; None if the alias was set without a valid mode."""
    try:
        return ChallengerMode.from_tag(tags.get(CHALLENGER_MODE, ""))
    except InvalidInput:
        return None
