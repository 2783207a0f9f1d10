"""Keep freed CPU memory for reuse."""

import ctypes
import os
import platform

#: Options of glibc's mallopt: up to M_TRIM_THRESHOLD bytes of freed memory are
#: kept, and buffers of up to M_MMAP_THRESHOLD bytes are allocated from them.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory, and return whether this was changed.

    By default, glibc returns tensors of more than 32 MB to the system. The
    system zeroes their pages when they are allocated again, which takes up to
    a seventh of a training step on a CPU (docs/performance.md). Nothing is
    changed if ``MALLOC_MMAP_THRESHOLD_`` or ``MALLOC_TRIM_THRESHOLD_`` is set,
    or with another C library.
    """
    names = {'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_'}
    if names & os.environ.keys() or platform.libc_ver()[0] != 'glibc':
        return False
    libc = ctypes.CDLL(None)
    done = libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
    return bool(libc.mallopt(M_TRIM_THRESHOLD, LARGEST) and done)
