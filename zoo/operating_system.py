"""Differences between operating systems: a process's memory, `exec`, signals, process groups."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, NoReturn


def execute(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Replaces this process by a command, with added environment variables, so that signals reach it."""
    variables = {**os.environ, **environment}
    if sys.platform == "win32":  # there, exec returns to the shell at once
        sys.exit(subprocess.run(command, env=variables, check=False).returncode)
    os.execve(command[0], command, variables)


def start_group(
    command: Sequence[str], environment: Mapping[str, str], output: IO[Any] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts a command with added environment variables; the terminal's Ctrl-C does not reach it.

    The command prints to `output`, or else to the outputs of this process.
    """
    variables = {**os.environ, **environment}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, env=variables, stdout=output, stderr=output, creationflags=flags)
    return subprocess.Popen(command, env=variables, stdout=output, stderr=output, start_new_session=True)


def end_group(leader: "subprocess.Popen[bytes]") -> None:
    """Sends SIGTERM to a process of `start_group` and its children; on Windows ends only the process."""
    if sys.platform == "win32":
        leader.terminate()
    else:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(leader.pid, signal.SIGTERM)


def kill_group(leader: "subprocess.Popen[bytes]") -> None:
    """Kills a process of `start_group` and its children; on Windows only the process."""
    if sys.platform == "win32":
        leader.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def interrupt_on_signals() -> None:
    """Makes each signal that asks a process to end raise `KeyboardInterrupt`, as Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # SIGHUP: the terminal was closed; SIGBREAK: Windows only
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)


def limit_memory(size: int) -> None:
    """Limits the memory of this process to `size` bytes; Windows and macOS do not enforce it."""
    if sys.platform != "win32":
        import resource

        # Not the address space: threads and CUDA reserve much more of it than they use.
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (size if most < 0 else min(size, most), most))


def limit_computation(seconds: float) -> None:
    """Ends this process after it has used this many seconds of CPU time on all cores, unless called again.

    0 removes the limit. On Windows there is none.
    """
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)  # sends SIGPROF, which ends a process


def return_freed_memory() -> None:
    """Returns freed memory to the system; does nothing if the C library is not glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
