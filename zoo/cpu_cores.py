"""Number of CPU cores that this process may use.

Own code, because neither Python nor a dependency of the service reads a container's CPU quota. Sources:
cgroups(7); the kernel's documentation of `cpu.max` and `cpu.cfs_quota_us`.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from zoo.errors import ZooError

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
"""Control groups of this process, one per line: number, controllers (none in version 2), path."""


def cpu_cores() -> int:
    """Returns `ZOO_CORES`, or else the number of cores this process is bound to, limited by its CPU quota.

    A fraction of a core counts as one. Raises `ZooError` if `ZOO_CORES` is not a whole number of at least 1.
    """
    if given := os.environ.get("ZOO_CORES"):
        if not re.fullmatch("0*[1-9][0-9]{0,5}", given):
            raise ZooError(f"ZOO_CORES={given}: expected a whole number of CPU cores, at least 1")
        return int(given)
    # macOS and Windows cannot tell which cores a process is bound to.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, _quota()))


def _quota() -> float:
    """Returns the CPU quota in cores: the smallest of the process's control group and the enclosing ones."""
    return min(map(_quota_of, _groups()), default=math.inf)


def _groups() -> Iterator[Path]:
    """Yields the directories of the control groups that may limit CPU time, from the process's own outwards.

    Inside a container the paths may be those of the host, which do not exist there: then the outermost
    directory is the container's own.
    """
    try:
        lines = os.fsdecode(MEMBERSHIP.read_bytes()).split("\n")
    except OSError:  # not Linux
        return
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / controllers
        group = root / path.lstrip("/")
        yield group
        yield from (parent for parent in group.parents if parent.is_relative_to(root))


def _quota_of(group: Path) -> float:
    """Returns a control group's quota in cores, or infinity if it has none."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, version 1
        with suppress(OSError, ValueError, ZeroDivisionError):  # no such file; "max"
            numbers = " ".join((group / name).read_text(encoding="ascii") for name in files)
            quota, period = map(int, numbers.split())
            return quota / period if quota > 0 else math.inf  # -1: no limit
    return math.inf
