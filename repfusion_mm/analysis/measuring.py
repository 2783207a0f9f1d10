"""Measure time, memory and FLOP of steps, on a GPU if there is one."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from pathlib import Path
from statistics import median
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from repfusion_mm.utils.malloc import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
MiB = 2**20


def count_flops(run: Callable[[], object]) -> int:
    """Return the FLOP of ``run()``; one multiply-add is two FLOP."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def now() -> float:
    """Return the time in seconds, after the GPU has finished."""
    if DEVICE == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def time_methods(
    parts: Dict[str, List[Tuple[object, str]]],
) -> Iterator[Dict[str, List[Tuple[float, float]]]]:
    """Time methods of objects within the context.

    Args:
        parts: Pairs of object and method name for each part.

    Yields:
        When each call began and ended, by part, in seconds.
    """
    calls: Dict[str, List[Tuple[float, float]]] = {part: [] for part in parts}

    def timed(part: str, method: Callable) -> Callable:
        def call(*args, **kwargs):
            begin = now()
            result = method(*args, **kwargs)
            calls[part].append((begin, now()))
            return result

        return call

    with contextlib.ExitStack() as stack:
        for part, methods in parts.items():
            for owner, name in methods:
                # An attribute of the instance hides the method of its class.
                setattr(owner, name, timed(part, getattr(owner, name)))
                stack.callback(delattr, owner, name)
        yield calls


def summarize(values: Sequence[float]) -> Dict[str, float]:
    """Return the median, the least and the largest value."""
    return dict(median=median(values), least=min(values), largest=max(values))


def measure_matmul_rate(dtype: torch.dtype, side: int = 0) -> float:
    """Return the FLOP/s of square matrix products, the mean of nine.

    By default, they are large enough to occupy the device.
    """
    side = side or (8192 if DEVICE == 'cuda' else 2048)
    x = torch.rand(side, side, device=DEVICE).to(dtype)
    threads = torch.get_num_threads()
    timer = Timer('x @ x', globals=dict(x=x), num_threads=threads)
    return 2 * side**3 / timer.timeit(9).mean


def set_memory_policy(keep: bool) -> None:
    """Keep freed memory on a CPU, as tools/train.py does, or return it.

    By default, glibc returns it to the system.
    """
    if DEVICE == 'cpu' and keep_freed_memory() and not keep:
        libc = ctypes.CDLL(None)
        # The values that glibc's own thresholds reach with large buffers.
        libc.mallopt(M_MMAP_THRESHOLD, 32 * MiB)
        libc.mallopt(M_TRIM_THRESHOLD, 64 * MiB)
        libc.malloc_trim(0)


def read_memory() -> Tuple[float, float]:
    """Return the MiB in use now, and the peak since ``reset_peak``.

    On a CPU they are those of this process, on a GPU those of its tensors.
    """
    if DEVICE == 'cuda':
        used = torch.cuda.memory_allocated()
        return used / MiB, torch.cuda.max_memory_allocated() / MiB
    gc.collect()
    lines = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    status = dict(line.split(':', 1) for line in lines)
    used, peak = (int(status[k].split()[0]) for k in ('VmRSS', 'VmHWM'))
    return used / 1024, peak / 1024  # from kB


def reset_peak() -> None:
    """Restart the measurement of the peak."""
    if DEVICE == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')
