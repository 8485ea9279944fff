"""Files that belong to somebody else: one line says whose they are."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from requirement import require
from server import environment

from training import store
from zoo import bundle_files
from zoo.cli import main
from zoo.errors import BundleError, ZooError
from zoo.file_access import denial, require_readable

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Gives up root's rights for a while."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of root's with a file, which others may not look into."""
    require(hasattr(os, "geteuid") and os.geteuid() == 0, "root, who can become another user")
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        closed = Path(directory, "closed")
        closed.mkdir(mode=0o700)
        (closed / "file").touch(mode=0o600)
        yield closed


def test_another_users_file(folder: Path) -> None:
    with as_nobody(), pytest.raises(PermissionError) as caught:
        (folder / "file").open("rb")
    with as_nobody():
        reason = denial(caught.value)
    assert reason == (
        f"{folder}/file cannot be accessed: {folder} belongs to root (drwx------), and this process runs as "
        "nobody; have root give you access"
    )


def test_a_file_of_the_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(folder))
    with as_nobody():
        reason = denial(PermissionError(errno.EACCES, "Permission denied", str(folder)))
    assert reason == (
        f"{folder} cannot be accessed: it belongs to root (drwx------), and this process runs as nobody; "
        "set ZOO_HOME to a folder of your own or have root give you access"
    )


def test_a_file_of_ones_own(folder: Path) -> None:
    reason = denial(PermissionError(errno.EACCES, "Permission denied", str(folder)))
    assert reason == (f"{folder} cannot be accessed: it belongs to root (drwx------); change its permissions")


def test_require_readable(folder: Path) -> None:
    require_readable(folder, folder / "file")
    require_readable(folder / "missing", folder / "missing")
    for closed in (folder, folder / "missing"):
        with as_nobody(), pytest.raises(ZooError, match="belongs to root"):
            require_readable(closed, folder / "file")
    folder.chmod(0o711)
    with as_nobody(), pytest.raises(ZooError, match="file cannot be accessed: it belongs to root"):
        require_readable(folder / "missing", folder / "file")
    with pytest.raises(ZooError, match="file: Not a directory"):
        require_readable(folder / "file", folder / "file")


def test_a_user_without_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    reason = denial(PermissionError(errno.EACCES, "Permission denied", str(folder)))
    assert reason is not None
    assert "runs as user 10001;" in reason


def test_a_read_only_file_system() -> None:
    reason = denial(OSError(errno.EROFS, "Read-only file system", "/zoo/mlflow.lock"))
    assert reason is not None
    assert reason == "/zoo/mlflow.lock cannot be written: its file system is read-only"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left", "/zoo"), OSError("no number"), PermissionError(13, "", 3)],
)
def test_other_errors_are_not_explained(error: OSError) -> None:
    assert denial(error) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "{home}/mlflow.lock"), "cannot be accessed: "),
        (OSError(errno.ENOSPC, "No space left on device", "{home}/mlflow.lock"), "No space left on device"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    error: OSError, said: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(directory: Path) -> None:
        error.filename = error.filename.format(home=home)
        raise error

    monkeypatch.setattr(store, "make_directory", make)
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"zoo: {home}/mlflow.lock")
    assert said in line


def test_a_database_that_may_only_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(folder))
    (folder / "mlflow.db").touch(mode=0o644)
    (folder / "mlflow.lock").touch()
    (folder / "mlflow.lock").chmod(0o666)
    folder.chmod(0o777)
    with as_nobody(), pytest.raises(PermissionError) as caught:
        store.connect()
    assert caught.value.filename == str(folder / "mlflow.db")


def test_the_service_does_not_start_on_a_home_that_it_may_not_read(folder: Path) -> None:
    imports = "import os, encodings.ascii, serving.service as service"  # another user may not read libraries
    code = f"{imports}; os.seteuid({NOBODY}); service.ZooService.inner.check_settings()"
    variables = {**environment(), "ZOO_HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"zoo: {folder} cannot be accessed: it belongs to root (drwx------)")
    assert len(done.stderr.splitlines()) == 1


def test_a_bundle_that_may_not_be_read(folder: Path) -> None:
    with as_nobody(), pytest.raises(BundleError, match="this process may not read the bundle's file"):
        bundle_files.size(folder / "file")
    with pytest.raises(BundleError, match="missing is missing"):
        bundle_files.size(folder / "missing")
