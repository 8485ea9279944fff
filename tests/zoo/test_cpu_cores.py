"""CPU cores that a process may count on: those it is bound to, its quota, and what the user says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cpu_quota import half_a_core

from zoo import cpu_cores as module
from zoo.cpu_cores import cpu_cores
from zoo.errors import ZooError

VERSION_2 = "0::{}\n"
VERSION_1 = "9:name=systemd:{0}\n3:cpuset:{0}\n2:cpu,cpuacct:{0}\n0::{0}\n"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with eight cores and without control groups; returns where they would be."""
    monkeypatch.delenv("ZOO_CORES", raising=False)
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def put_in(machine: Path, lines: str, group: str) -> None:
    (machine / "membership").write_text(lines.format(group))


def limit(machine: Path, group: str, **files: str) -> None:
    directory = machine / "cgroup" / group
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def test_cores_that_this_process_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    assert cpu_cores() == 3


def test_cores_where_no_process_is_bound_to_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000\n", 8), ("200000 100000\n", 2), ("250000 100000\n", 3), ("50000 100000\n", 1), ("", 8)],
)
def test_a_quota_of_version_2(quota: str, cores: int, machine: Path) -> None:
    put_in(machine, VERSION_2, "/")
    limit(machine, "", cpu__max=quota)
    assert cpu_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", 8), ("200000\n", 2), ("250000\n", 3), ("50000\n", 1)])
def test_a_quota_of_version_1(quota: str, cores: int, machine: Path) -> None:
    put_in(machine, VERSION_1, "/")
    limit(machine, "cpu,cpuacct", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000\n")
    assert cpu_cores() == cores


@pytest.mark.parametrize(("inner", "outer", "cores"), [("2", "6", 2), ("6", "2", 2), ("max", "3", 3)])
def test_the_smallest_quota_of_the_groups_around_a_process(
    inner: str, outer: str, cores: int, machine: Path
) -> None:
    """As of a service in a slice of systemd, both with CPUQuota=."""
    put_in(machine, VERSION_2, "/zoo.slice/zoo.service")
    limit(machine, "zoo.slice", cpu__max=f"{outer} 1")
    limit(machine, "zoo.slice/zoo.service", cpu__max=f"{inner} 1")
    assert cpu_cores() == cores


@pytest.mark.parametrize(
    ("lines", "root", "files"),
    [
        (VERSION_2, "", {"cpu__max": "3 1"}),
        (VERSION_1, "cpu,cpuacct", {"cpu__cfs_quota_us": "3", "cpu__cfs_period_us": "1"}),
    ],
)
def test_the_path_is_the_hosts(lines: str, root: str, files: dict[str, str], machine: Path) -> None:
    """Without a namespace of control groups a container sees its path on the host, but only its own files."""
    put_in(machine, lines, "/docker/4f2a")
    limit(machine, root, **files)
    assert cpu_cores() == 3


@pytest.mark.parametrize("line", [b"", b"0", b"0::/a\x0cb", b"0::/\xff", b"0::/a:b"])
def test_odd_lines(line: bytes, machine: Path) -> None:
    (machine / "membership").write_bytes(line + b"\n0::/\n")
    limit(machine, "", cpu__max="2 1")
    assert cpu_cores() == 2


def test_a_period_of_nothing(machine: Path) -> None:
    put_in(machine, VERSION_2, "/")
    limit(machine, "", cpu__max="2 0")
    assert cpu_cores() == 8


def test_what_the_user_says_comes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(machine, VERSION_2, "/")
    limit(machine, "", cpu__max="2 1")
    monkeypatch.setenv("ZOO_CORES", "5")
    assert cpu_cores() == 5
    monkeypatch.setenv("ZOO_CORES", "")
    assert cpu_cores() == 2


@pytest.mark.parametrize("given", ["0", "-1", "2.5", "two", "1e3", "9999999"])
def test_what_is_no_number_of_cores(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CORES", given)
    with pytest.raises(ZooError, match=f"ZOO_CORES={given}: expected a whole number"):
        cpu_cores()


def test_a_real_quota() -> None:
    code = "from zoo.cpu_cores import cpu_cores; print(cpu_cores())"
    with half_a_core() as launcher:
        done = subprocess.run([*launcher, sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"1\n"
