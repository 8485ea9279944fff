"""Reads the files of a bundle: only regular files, each up to a maximum size."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from zoo.errors import BundleError


def content(path: Path, most: int) -> bytes:
    """Returns a file's content; `BundleError` if it has more than `most` bytes, and as in `opened`."""
    with opened(path) as file:
        held = os.fstat(file.fileno()).st_size
        if held > most:
            raise BundleError(f"{path.name} has {held} bytes; at most {most} are read")
        return file.read(held)  # not `most`: Python would allocate that much


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content; `BundleError` as in `opened`."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(path: Path) -> int:
    """Returns the size of a file in bytes; `BundleError` as in `opened`."""
    with opened(path) as file:
        return os.fstat(file.fileno()).st_size


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Opens a regular file; `BundleError` for any other, such as a pipe, which might block the reader."""
    waitless = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # either may be missing
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | waitless), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path.name} is not a regular file")
            yield file
    except FileNotFoundError as error:
        raise BundleError(f"the bundle is not a complete bundle: {path.name} is missing") from error
    except PermissionError as error:
        raise BundleError(f"this process may not read the bundle's {path.name}") from error
    except OSError as error:
        raise BundleError(f"the bundle's {path.name} cannot be read") from error
