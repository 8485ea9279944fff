"""A child process that answers each line with a line, and can be killed: for work that nothing bounds.

What it works on may be hostile, so nothing that it writes is unpickled, and it gets no keys and no passwords.
"""

import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from zoo.errors import NotTried

START_SECONDS = 60.0  # on a busy machine; a quiet one takes 0.6
ENDING_SECONDS = 1.0
SECRET = ("AWS_", "MLFLOW_", "OTEL_", "ZOO_")
"""Beginnings of variables that may hold keys and passwords."""


def child_environment() -> dict[str, str]:
    """Variables for a child process, which finds the modules that this one finds, and knows no secrets."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    return environment


class LineProcess:
    """`python -m MODULE`, whose first line is empty and says that it is ready."""

    def __init__(self, module: str) -> None:
        """Starts the process; `NotTried` if it does not become ready."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            encoding="utf-8",
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )
        self.end = weakref.finalize(self, _end, self._process)
        """Kills the process and waits for its end; also called where nobody does."""
        if self.ask(None, START_SECONDS) is None:
            self.end()
            raise NotTried(f"{module} was not ready in {START_SECONDS:g} s; the service's log may say why")

    @property
    def status(self) -> int | None:
        """Exit status, negative if a signal ended it; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Has the process end, whoever waits for its answer. Any thread may call."""
        self._process.kill()

    def ask(self, line: str | None, seconds: float) -> str | None:
        """Returns the answer; None if the process ends before, or is killed after so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            if line is not None:
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except (OSError, ValueError):  # it has ended, or its pipes were closed
            answer = ""
        finally:
            timer.cancel()
        if answer.endswith("\n"):
            return answer
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_SECONDS)  # to be killed now would hide its own status
        return None


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    with suppress(OSError), process:  # which closes the pipes and waits
        pass
