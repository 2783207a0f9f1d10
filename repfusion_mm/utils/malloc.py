"""Let a CPU's memory be used again instead of being asked for anew."""

import ctypes
import os
import platform

#: Of glibc's mallopt: keep freed memory up to M_TRIM_THRESHOLD bytes, and
#: take buffers up to M_MMAP_THRESHOLD bytes from what is kept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what a training step frees for the next step.

    By default it gives tensors of more than 32 MB back to the system, which
    hands them out again page by page, with zeros: up to a seventh of a step's
    time on a CPU (docs/performance.md). Where ``MALLOC_MMAP_THRESHOLD_`` or
    ``MALLOC_TRIM_THRESHOLD_`` are set, they are left alone.

    Returns:
        Whether that was done; other C libraries have no such settings.
    """
    names = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')
    if any(name in os.environ for name in names):
        return False
    if platform.libc_ver()[0] != 'glibc':
        return False
    libc = ctypes.CDLL(None)
    done = libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
    return bool(libc.mallopt(M_TRIM_THRESHOLD, LARGEST) and done)
