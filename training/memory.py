"""Setting of glibc's malloc that keeps freed memory in the process instead of returning it to the kernel.

glibc returns large freed blocks at once, so every training step has page faults for its activations: two
million per epoch for LeNet-5, and a throughput that varies by a factor of 1.6 from run to run.
"""

import ctypes
import logging
import platform

log = logging.getLogger(__name__)

# Parameters in glibc's malloc.h, with thresholds in bytes; activations of a whole batch stay below them.
_THRESHOLDS = {"M_MMAP_THRESHOLD": (-3, 32 << 20), "M_TRIM_THRESHOLD": (-1, (1 << 31) - 1)}


def keep_freed_memory() -> None:
    """Sets glibc's malloc thresholds for this process; does nothing with another C library."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for name, (parameter, size) in _THRESHOLDS.items():
        if not libc.mallopt(parameter, size):
            log.warning("glibc refused %s = %d: training may be slower", name, size)
