"""Keeps a training step's memory with the process instead of giving it back to the kernel.

glibc returns large freed blocks at once, and every step page-faults its activations in again: two
million faults an epoch for LeNet-5, and a throughput that varies by a factor of 1.6 from run to run.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_KEEP_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Pins glibc's malloc thresholds at 1 GiB for this process; does nothing elsewhere."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
