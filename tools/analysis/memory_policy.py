"""Switch between keeping freed memory, as tools/train.py does on a CPU, and
giving it back, as a plain process does."""

import ctypes
import platform

from repfusion_mm.utils.malloc import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
)

#: Where glibc's own thresholds end up in a process with large buffers.
LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_memory(keep: bool) -> None:
    """Keep what is freed from now on, or give it back, and all of it now."""
    if keep_freed_memory() and not keep:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)
        libc.malloc_trim(0)


def can_be_kept(device: str) -> bool:
    """Whether the choice is there."""
    return device == 'cpu' and platform.libc_ver()[0] == 'glibc'
