"""Keeps a training step's memory with the process instead of giving it back to the kernel.

glibc returns large freed blocks at once, and every step page-faults its activations in again: two
million faults an epoch for LeNet-5, and a throughput that varies by a factor of 1.6 from run to run.
"""

import ctypes
import logging
import platform

log = logging.getLogger(__name__)

# Parameters of glibc's malloc.h, each with a size in bytes; a whole batch's activations stay below them.
_THRESHOLDS = {"M_MMAP_THRESHOLD": (-3, 32 << 20), "M_TRIM_THRESHOLD": (-1, (1 << 31) - 1)}


def keep_freed_memory() -> None:
    """Pins glibc's malloc thresholds for this process; does nothing elsewhere."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for name, (parameter, size) in _THRESHOLDS.items():
        if not libc.mallopt(parameter, size):
            log.warning("glibc refused %s = %d: training may be slower", name, size)
