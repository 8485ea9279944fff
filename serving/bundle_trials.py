"""Tries each bundle in a child process first, as its graph may run for ever or fill the memory.

A call that runs a graph in ONNX Runtime cannot be stopped from outside, so the first load, the golden request
and the warm-up take place in a process that can be killed. For the stored results see
`serving.bundle_verdicts`.
"""

import os
import signal
import threading
from pathlib import Path

from serving.bundle_trial_process import Outcome, Trial
from serving.bundle_verdicts import Verdicts
from serving.line_process import LineProcess
from zoo import bundle
from zoo.errors import BundleError, NotTried, PastLimit, ProviderUnavailable

LATE = [-getattr(signal, name) for name in ("SIGKILL", "SIGPROF") if hasattr(signal, name)]
"""Exit statuses of a process that took too long."""
SECONDS = 5.0
"""CPU seconds of a trial on each core that its graph may use; EfficientNet-Lite0 needs 0.1 s."""
BYTES_PER_SECOND = 20 << 20
"""Bytes of a bundle for each additional second of a trial: disks and processors may be this slow."""
WAITING = 3
"""Wall-clock seconds that a trial may take for each second of its CPU time, on a busy machine."""
MEMORY = 1 << 30
"""Bytes of memory for a trial of the smallest bundle; the process itself takes 0.15 GB."""
MEMORY_PER_BYTE = 8
"""Bytes of memory for each byte of a bundle: a graph may be in memory as bytes, parsed and rearranged."""
MEMORY_PER_CORE = 64 << 20
"""Bytes for the stacks and buffers of the threads that libraries start for each core."""
CUDA_SECONDS = 30.0  # for the first use of the device
CUDA_MEMORY = 8 << 30  # bytes for CUDA's libraries


class Trials:
    """Tries bundles for one device, one at a time."""

    def __init__(self, device: str, threads: int, cores: int, verdicts: Verdicts) -> None:
        self._device, self._threads, self._cores = device, threads, cores
        self.verdicts = verdicts
        self._lock = threading.Lock()
        self._process: LineProcess | None = None
        self._closed = False

    def require_passed(self, directory: Path) -> str:
        """Returns the digest of the bundle in a directory if it passes its trial, or has passed it before.

        Raises `BundleError` if it does not pass, `NotTried` if it cannot be tried, and `ProviderUnavailable`
        if the device is not available.
        """
        digest = bundle.digest_of(directory)
        with self._lock:
            verdict = self.verdicts.find(digest)
            if verdict is None:
                self._try(directory, digest)
            elif verdict.reason is not None:
                raise PastLimit(verdict.reason)  # no other refusals are kept
        return digest

    def rest(self) -> None:
        """Ends the child process unless it is trying a bundle; the next trial starts another."""
        if self._lock.acquire(blocking=False):
            self._end()
            self._lock.release()

    def close(self) -> None:
        """Ends the child process, even during a trial."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._end()

    def _try(self, directory: Path, digest: str) -> None:
        trial = self._trial(directory)
        outcome = self._ask(trial)
        if isinstance(outcome, str):
            self.verdicts.went_past_a_limit(digest, outcome)
            raise PastLimit(outcome)
        if outcome.device_missing:
            raise ProviderUnavailable(str(outcome.reason))
        if outcome.reason is None and outcome.digest == digest:
            self.verdicts.passed(digest)
            return
        self._end()  # it may hold a lot of memory
        reason = outcome.reason or "the bundle was changed while it was tried"
        cause = RuntimeError(outcome.detail) if outcome.detail else None
        if outcome.short_of_memory:
            reason = f"its check needs more than {trial.memory >> 20} MiB of memory"
            self.verdicts.went_past_a_limit(digest, reason)
            raise PastLimit(reason) from cause
        raise BundleError(reason) from cause

    def longest_seconds(self, directory: Path) -> float:
        """Returns the wall-clock seconds that the trial of a bundle may take, on a busy machine."""
        return WAITING * self._seconds(bundle.size_of(directory))

    def _seconds(self, size: int) -> float:
        return SECONDS + size / BYTES_PER_SECOND + CUDA_SECONDS * (self._device == "cuda")

    def _trial(self, directory: Path) -> Trial:
        size, cuda = bundle.size_of(directory), self._device == "cuda"
        memory = (
            MEMORY + MEMORY_PER_BYTE * size + MEMORY_PER_CORE * (os.cpu_count() or 1) + CUDA_MEMORY * cuda
        )
        return Trial(
            directory=directory.absolute(),
            device=self._device,
            threads=self._threads,
            cores=self._cores,
            seconds=self._seconds(size),
            memory=memory,
        )

    def _ask(self, trial: Trial) -> Outcome | str:
        """Returns the outcome of a trial, or the reason why there is none."""
        if self._process is None or self._process.status is not None:
            self._end()
            self._process = LineProcess("serving.bundle_trial_process")
        process = self._process
        answer = None if self._closed else process.ask(trial.model_dump_json(), WAITING * trial.seconds)
        if answer is not None:
            return Outcome.model_validate_json(answer)
        status = process.status
        self._end()
        if self._closed:
            raise NotTried("the service is stopping")
        if status in LATE:
            return f"its check took longer than {trial.seconds:.0f} s"
        return "its check ended the process that it ran in"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()
