"""What takes long to make of files, kept on disk so that it is made once: .npz files in `$ZOO_HOME/cache`.

A key stands for the content it was made from, so an entry never becomes stale; the whole folder may be
deleted at any time.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from zoo.home import home, make_directory
from zoo.tasks import Arrays


def identity(parts: Iterable[str]) -> str:
    """Hexadecimal digest of what identifies a source, for use in a key."""
    lines = "\0".join(parts)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:20]


def file_identity(path: Path, name: str) -> str:
    """A file by name, size and time of its last change, without reading it."""
    status = path.stat()
    return f"{name} {status.st_size} {status.st_mtime_ns}"


def cached(key: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays kept under a key; where there are none, those that `make` returns, which are kept."""
    path = home() / "cache" / f"{key}.npz"
    if not path.exists():
        _keep(path, make())
    with np.load(path) as arrays:
        return dict(arrays)


def _keep(path: Path, arrays: Arrays) -> None:
    make_directory(path.parent)
    # Under a name of its own until it is complete: others may be reading, or writing the same entry.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        staging = Path(folder) / path.name
        np.savez(staging, **arrays)  # type: ignore[arg-type]  # no array is named as its option
        staging.replace(path)
