"""Child processes for work that could not be stopped in a thread, such as parsing megabytes of JSON.

A thread that parses holds the interpreter lock, so that the event loop waits until it is done. A process does
not, and it can be killed: it has its own time and memory limits.
"""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from serving.line_process import child_environment
from serving.turns import too_late
from zoo.errors import InputTooLarge, InvalidInput, ZooError
from zoo.operating_system import limit_memory

T = TypeVar("T")

Ask = Callable[..., Any]
"""Function with which a child queries the service; arguments and result are pickled."""

IDLE_SECONDS = 60.0
"""Idle seconds after which a child may be ended; a new one takes half a second to start."""
WORK = "from serving.child_process import main; main()"  # not -m: pickle refers to classes by module
ENDING_SECONDS = 1.0
SHORT_OF_MEMORY = 3
"""Exit status of a child whose work exceeds its memory limit."""
OWN_MEMORY = 1 << 28  # maximum bytes of a child without work
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # the child computes nothing in parallel


class Abandoned(Exception):
    """The service refused to answer a query of the child; the service keeps the reason."""


class Child:
    """Running child process, and the service's end of the pipe to it."""

    def __init__(self, memory: int) -> None:
        """`memory` is the number of bytes that its work may use."""
        self._connection, theirs = Pipe()
        number = theirs.fileno()
        command = [sys.executable, "-c", WORK, str(number), str(memory)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env={**child_environment(), **ONE_THREAD},
            pass_fds=[number],
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )
        theirs.close()
        self.idle_since = 0.0
        self.waits = True
        """True if the child waits for work; False if it has not finished a call."""

    def call(
        self, seconds: float, function: Callable[..., T], arguments: tuple[Any, ...], answer: Ask | None
    ) -> T:
        """Returns the function's result. Raises `EOFError` if the child ends, as it does after `seconds`."""
        self.waits = False
        try:
            self._connection.send((seconds, function, arguments, answer is not None))
            while True:
                word, value = self._connection.recv()
                self.waits = word in ("done", "failed")
                if word == "done":
                    result: T = value
                    return result
                if word == "failed":
                    raise value
                if answer is not None:
                    self._answer(answer, value)
        except OSError:  # the pipe is broken
            raise EOFError from None

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def end(self) -> int:
        """Ends the process and returns its exit status: as in `subprocess`, negative if a signal ended it."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(ENDING_SECONDS)  # it has ended, or ends now that the pipe is closed
        self._process.kill()
        return self._process.wait()

    def _answer(self, answer: Ask, question: tuple[Any, ...]) -> None:
        try:
            told = answer(*question)
        except Exception:
            with suppress(EOFError, OSError):  # it has ended in the meantime
                self._connection.send(("failed", None))
                self._connection.recv()  # the confirmation that the child has abandoned its work
                self.waits = True
            raise
        self._connection.send(("done", told))


class ChildProcesses:
    """Pool of child processes. Any thread may use it."""

    def __init__(self, memory: int) -> None:
        """`memory` is the number of bytes that the work of one child may use."""
        self._memory = memory
        self._idle: list[Child] = []
        self._lock = threading.Lock()

    def call(
        self, deadline: float, function: Callable[..., T], *arguments: Any, answer: Ask | None = None
    ) -> T:
        """Calls a module-level function in a child process, and returns its result or raises its exception.

        With `answer`, the function gets an additional last argument: a function that calls `answer` in the
        service. All arguments and results are pickled. Raises `DeadlineExceeded` past the `deadline`, when
        the child is killed, and `InputTooLarge` if the work exceeds its memory limit. Windows has no timer
        that ends a process, so the function is called in the service's process there.
        """
        if not hasattr(signal, "setitimer"):
            return function(*arguments) if answer is None else function(*arguments, answer)
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise too_late()
        child = self._take()
        try:
            result = child.call(seconds, function, arguments, answer)
        except EOFError:
            status = child.end()
            if status == -signal.SIGALRM:
                raise too_late() from None
            if status in (SHORT_OF_MEMORY, -signal.SIGKILL):
                raise InputTooLarge("the request takes more memory than it may") from None
            raise RuntimeError(f"a child process ended with status {status}") from None
        except Exception:
            self._return(child)
            raise
        self._return(child)
        return result

    def end_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Ends the children that have been idle for at least `seconds`."""
        before = time.monotonic() - seconds
        with self._lock:
            idle = [child for child in self._idle if child.idle_since <= before]
            self._idle = [child for child in self._idle if child.idle_since > before]
        for child in idle:
            child.end()

    def close(self) -> None:
        """Ends the idle children; the others end when their work is done."""
        self.end_idle(0)

    def _take(self) -> Child:
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return Child(self._memory)
            if child.is_alive:
                return child
            child.end()  # for example killed by the operating system

    def _return(self, child: Child) -> None:
        if not child.waits:  # for example after a value that could not be pickled
            child.end()
            return
        child.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(child)


def work(connection: Connection, memory: int) -> None:
    """Runs the calls that arrive on the connection, until it is closed."""
    limit_memory(OWN_MEMORY + memory)
    gc.disable()  # it would scan millions of new lists repeatedly, and no work leaves garbage

    def ask(*question: Any) -> Any:
        connection.send(("ask", question))
        word, value = connection.recv()
        if word == "failed":
            raise Abandoned
        return value

    while True:
        try:
            seconds, function, arguments, asks = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process, whatever it is doing
        try:
            told = "done", function(*arguments, ask) if asks else function(*arguments)
        except MemoryError:
            os._exit(SHORT_OF_MEMORY)
        except Exception as error:
            if not isinstance(error, ZooError):
                error.add_note(traceback.format_exc())  # tracebacks are not pickled, notes are
            told = "failed", error.with_traceback(None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            connection.send(told)
        except MemoryError:
            os._exit(SHORT_OF_MEMORY)
        except RecursionError:
            connection.send(("failed", InvalidInput("the body is nested too deeply")))
        del told, arguments  # they may take megabytes


def main() -> None:
    """Runs this process as a child, with the command line arguments that `Child` passes."""
    work(Connection(int(sys.argv[1])), int(sys.argv[2]))
