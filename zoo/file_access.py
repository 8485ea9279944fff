"""Explains why this process may not read or write a file: its owner, and the user of this process."""

import errno
import os
import stat
from pathlib import Path

from zoo.errors import ZooError
from zoo.home import home


def require_readable(folder: Path, file: Path) -> None:
    """Raises `ZooError` if a folder or a file exists, but this process may not read it."""
    try:
        if folder.exists():
            next(folder.iterdir(), None)
        if file.exists():
            file.open("rb").close()
    except OSError as error:
        raise ZooError(denial(error) or f"{error.filename}: {error.strerror}") from None


def denial(error: OSError) -> str | None:
    """Returns a message that names the file, the reason, and a remedy; None for an error of another kind."""
    if not isinstance(error.filename, str) or not error.filename:
        return None
    path = Path(error.filename).absolute()
    elsewhere = "set ZOO_HOME to a folder of your own" if path.is_relative_to(home()) else ""
    if error.errno == errno.EROFS:
        return "; ".join(filter(None, [f"{path} cannot be written: its file system is read-only", elsewhere]))
    if error.errno not in (errno.EACCES, errno.EPERM):
        return None
    found = _nearest(path)
    status = found.stat()
    owner, permissions, user = _name(status.st_uid), stat.filemode(status.st_mode), _name(os.geteuid())
    what = "it" if found == path else found
    reason = f"{path} cannot be accessed: {what} belongs to {owner} ({permissions})"
    if owner == user:
        return f"{reason}; change its permissions"
    advice = " or ".join(filter(None, [elsewhere, f"have {owner} give you access"]))
    return f"{reason}, and this process runs as {user}; {advice}"


def _nearest(path: Path) -> Path:
    """Returns the path itself, or the innermost folder above it, whose status this process can read."""
    while True:
        try:
            path.stat()
        except OSError:
            path = path.parent
        else:
            return path


def _name(user: int) -> str:
    """Returns the name of a user id, or for example `user 10001` if the system knows none."""
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):  # Windows; no such user
        return f"user {user}"
