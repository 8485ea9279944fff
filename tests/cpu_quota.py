"""A real control group with half a core, for processes that a test starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSION_1, VERSION_2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
PERIOD_US = 100_000


@contextmanager
def half_a_core() -> Iterator[list[str]]:
    """Makes a control group; yields the command that joins it and executes the command after it."""
    root = VERSION_1 if VERSION_1.is_dir() else VERSION_2
    group = root / f"zoo-test-{os.getpid()}"
    try:
        group.mkdir()
        if root is VERSION_1:
            (group / "cpu.cfs_quota_us").write_text(str(PERIOD_US // 2))
        else:
            (group / "cpu.max").write_text(f"{PERIOD_US // 2} {PERIOD_US}")
    except OSError:
        if group.is_dir():
            group.rmdir()
        pytest.skip("needs the right to make a control group with a CPU quota")
    try:
        yield ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(group / "cgroup.procs")]
    finally:
        group.rmdir()
