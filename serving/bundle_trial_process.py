"""Child process that tries bundles one at a time, and can be killed.

Each line of standard input is a `Trial`, and each line of standard output its `Outcome`. The first line of
the output is empty and signals that the process is ready. See `serving.bundle_trials`.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from serving.warm_up import open_and_warm_up, threads_of
from zoo import bundle
from zoo.errors import BundleError, ProviderUnavailable
from zoo.operating_system import limit_computation, limit_memory

if TYPE_CHECKING:
    from typing import TextIO


class Trial(BaseModel):
    """Bundle to load as the service would load it, and the limits for that."""

    directory: Path
    device: str
    threads: int
    cores: int
    seconds: float
    """CPU seconds that the trial may take on each core that the graph may use."""
    memory: int
    """Bytes of memory that the process may use."""


class Outcome(BaseModel):
    """Result of a trial."""

    digest: str = ""
    """SHA-256 of the manifest of the bundle that was tried."""
    reason: str | None = None
    """Reason why the bundle is refused; None if it passed."""
    detail: str = ""
    """Error message of a library, for the log only."""
    short_of_memory: bool = False
    device_missing: bool = False
    """True if the device failed rather than the bundle."""


def run(trial: Trial) -> Outcome:
    """Loads a bundle, replays its golden request and warms it up, within time and memory limits."""
    limit_memory(trial.memory)
    limit_computation(trial.seconds)
    try:
        loaded = bundle.load(trial.directory)
        threads = threads_of(loaded.task, trial.threads, trial.cores)
        limit_computation(trial.seconds * threads)
        open_and_warm_up(loaded, trial.device, threads, threading.TIMEOUT_MAX)
    except ProviderUnavailable as error:
        return Outcome(reason=str(error), device_missing=True)
    except BundleError as error:
        return Outcome(
            reason=str(error), detail=_detail(error.__cause__), short_of_memory=_short_of_memory(error)
        )
    except MemoryError as error:
        return Outcome(reason="it needs too much memory", detail=_detail(error), short_of_memory=True)
    finally:
        limit_computation(0)
    return Outcome(digest=loaded.digest)


def _detail(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}"[:2000]


def _short_of_memory(error: BundleError) -> bool:
    """Returns True if NumPy or ONNX Runtime ran out of memory; the latter says so only in its message."""
    cause = error.__cause__
    return isinstance(cause, MemoryError) or any(
        word in str(cause) for word in ("bad_alloc", "Failed to allocate memory", "bad allocation")
    )


def main() -> None:
    """Answers the parent process until it exits or closes standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in the terminal: the service decides when to end
    answers: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output that libraries print
    print(file=answers, flush=True)
    for line in sys.stdin:
        print(run(Trial.model_validate_json(line)).model_dump_json(), file=answers, flush=True)


if __name__ == "__main__":
    main()
