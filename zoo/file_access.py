"""Explains why this process may not read or write a file: whose it is, and who asks."""

import errno
import os
import stat
from pathlib import Path

from zoo.errors import ZooError


def require_readable(path: Path) -> None:
    """Raises `ZooError` where a file or folder is there, but this process may not read it."""
    try:
        if path.is_dir():
            next(path.iterdir(), None)
        elif path.exists():
            path.open("rb").close()
    except OSError as error:
        if (reason := denial(error)) is None:
            raise
        raise ZooError(reason) from None


def denial(error: OSError) -> str | None:
    """Returns which file may not be accessed, why, and what to do; None for an error of another kind."""
    if error.filename is None:
        return None
    path = os.fsdecode(error.filename)
    if error.errno == errno.EROFS:
        return f"{path} cannot be written: its file system is read-only; set ZOO_HOME to a folder of your own"
    if error.errno not in (errno.EACCES, errno.EPERM):
        return None
    found = _nearest(Path(path).absolute())
    status = found.stat()
    owner, permissions = _name(status.st_uid), stat.filemode(status.st_mode)
    return (
        f"{path} cannot be accessed: {found} belongs to {owner} ({permissions}), and this process runs as "
        f"{_name(os.geteuid())}; set ZOO_HOME to a folder of your own, or have {owner} give you access"
    )


def _nearest(path: Path) -> Path:
    """Returns the file, or the innermost folder above it, that this process can look at."""
    while True:
        try:
            path.stat()
        except OSError:
            path = path.parent
        else:
            return path


def _name(user: int) -> str:
    """Returns the name of a user by id, or such as `user 10001` where the system knows none."""
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):  # Windows; no such user
        return f"user {user}"
