"""Disk cache for arrays that are slow to compute from files: .npz files in `$ZOO_HOME/cache`.

A key identifies the content that the arrays were made from, so an entry never becomes stale. The whole folder
may be deleted at any time.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from zoo.home import home, make_directory
from zoo.tasks import Arrays


def identity(parts: Iterable[str]) -> str:
    """Returns a hexadecimal digest of the strings that identify a source, for use in a key."""
    lines = "\0".join(parts)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:20]


def file_identity(path: Path, name: str) -> str:
    """Identifies a file by name, size and modification time, without reading it."""
    status = path.stat()
    return f"{name} {status.st_size} {status.st_mtime_ns}"


def cached(key: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays cached under a key; if there are none, calls `make` and caches its result."""
    path = home() / "cache" / f"{key}.npz"
    if not path.exists():
        _keep(path, make())
    with np.load(path) as arrays:
        return dict(arrays)


def _keep(path: Path, arrays: Arrays) -> None:
    make_directory(path.parent)
    # Under a temporary name until complete: other processes may be reading or writing the same entry.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        staging = Path(folder) / path.name
        np.savez(staging, **arrays)  # type: ignore[arg-type]  # no array has the name of its option
        staging.replace(path)
