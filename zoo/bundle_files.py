"""Reads the files of a bundle: regular ones alone, and of each no more bytes than it may have."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from zoo.errors import BundleError


def content(path: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes; `BundleError` where it has more, or as of `opened`."""
    with opened(path) as file:
        held = os.fstat(file.fileno()).st_size
        if held > most:
            raise BundleError(f"{path.name} has {held} bytes; at most {most} are read")
        return file.read(held)  # not `most`, for which Python would make room


def sha256(path: Path) -> str:
    """SHA-256 of a file's content; `BundleError` as of `opened`."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(path: Path) -> int:
    """Bytes of a file; `BundleError` as of `opened`."""
    with opened(path) as file:
        return os.fstat(file.fileno()).st_size


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file; `BundleError` where it is a pipe or a device, whose reader might wait for ever."""
    waitless = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # each of one operating system
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
