"""Child process that answers each line with a line, and can be killed: for work that has no time limit.

Its input may be malicious, so its output is never unpickled, and it gets no keys and no passwords.
"""

import os
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from zoo.errors import NotTried

START_SECONDS = 60.0  # on a busy machine; an idle one takes 0.6
ENDING_SECONDS = 1.0
SECRET = ("AWS_", "MLFLOW_", "OTEL_", "ZOO_")
"""Prefixes of environment variables that may hold keys and passwords."""


def child_environment() -> dict[str, str]:
    """Returns environment variables for a child process, with this one's module path and without secrets."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    return environment


class LineProcess:
    """Process `python -m MODULE`, which signals that it is ready by an empty first line."""

    def __init__(self, module: str) -> None:
        """Starts the process. Raises `NotTried` if it does not become ready."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            encoding="utf-8",
            start_new_session=True,  # out of reach of the terminal's Ctrl-C
        )
        self.end = weakref.finalize(self, _end, self._process)
        """Kills the process and waits for its end; also called when this object is freed."""
        if self.ask(None, START_SECONDS) is None:
            self.end()
            raise NotTried(f"{module} was not ready in {START_SECONDS:g} s; the service's log may say why")

    @property
    def status(self) -> int | None:
        """Exit status, negative if a signal ended it; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Kills the process, even if a thread waits for its answer. Any thread may call this."""
        self._process.kill()

    def ask(self, line: str | None, seconds: float) -> str | None:
        """Sends a line and returns the answer; None if the process ends first. Kills it after `seconds`."""
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
            self._process.wait(ENDING_SECONDS)  # killing it now would hide its own exit status
        return None


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    with suppress(OSError), process:  # which closes the pipes and waits
        pass
