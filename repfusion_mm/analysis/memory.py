"""Measure the memory of a process or a GPU, and keep or return it."""

from __future__ import annotations

import ctypes
import gc
import platform
from pathlib import Path

import torch

from repfusion_mm.utils.malloc import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
)

MB = 2**20
#: The value at which glibc's own threshold ends in a process with large
#: buffers.
LARGEST_MMAP_THRESHOLD = 32 * MB


def can_keep_memory(device: str) -> bool:
    """Return whether ``set_memory_policy`` has an effect."""
    return device == 'cpu' and platform.libc_ver()[0] == 'glibc'


def set_memory_policy(keep: bool) -> None:
    """Keep freed memory, as tools/train.py does, or return it to the system.

    glibc returns it by default.
    """
    if keep_freed_memory() and not keep:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)
        libc.malloc_trim(0)


def memory_in_use(device: str) -> float:
    """Return the MB of this process, or of its tensors on a GPU."""
    if device == 'cuda':
        return torch.cuda.memory_allocated() / MB
    gc.collect()
    return _read_status('VmRSS')


def peak_memory(device: str) -> float:
    """Return the most MB in use since ``reset_peak_memory``."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / MB
    return _read_status('VmHWM')


def reset_peak_memory(device: str) -> None:
    """Restart the measurement of ``peak_memory``."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5')


def _read_status(name: str) -> float:
    """Return an entry of Linux's status of this process, in MB."""
    lines = Path('/proc/self/status').read_text().splitlines()
    status = dict(line.split(':', 1) for line in lines)
    return int(status[name].split()[0]) / 1024  # kB
