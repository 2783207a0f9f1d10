"""Time, memory and arithmetic of steps, beside each other in one run."""

import contextlib
import statistics
import time
from typing import Callable, Dict, Iterator, List, Tuple

import torch
from torch.utils.flop_counter import FlopCounterMode


def wait(device: str) -> None:
    """Wait until a GPU has done what it was told."""
    if device == 'cuda':
        torch.cuda.synchronize()


def clock(run: Callable[[], object], device: str) -> float:
    """Return the seconds that ``run()`` takes."""
    wait(device)
    begin = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begin


def interleave(
    runs: Dict[str, Callable[[], Callable[[], object]]],
    rounds: int,
    warmup: int,
    device: str,
) -> Dict[str, List[float]]:
    """Time several steps in turn, so that all see the same machine.

    Args:
        runs: Each prepares one step, which is not timed, and returns it.
        rounds: How often each is timed.
        warmup: Rounds before, that are not counted.
        device: Where they run.

    Returns:
        Seconds of every round.
    """
    times: Dict[str, List[float]] = {name: [] for name in runs}
    for number in range(warmup + rounds):
        for name, prepare in runs.items():
            seconds = clock(prepare(), device)
            if number >= warmup:
                times[name].append(seconds)
    return times


def summarize(seconds: List[float]) -> Dict[str, float]:
    """Return median, least and largest, in milliseconds."""
    ms = [1e3 * s for s in seconds]
    return dict(median=statistics.median(ms), least=min(ms), largest=max(ms))


def median_ratio(
    above: List[float], below: List[float]
) -> Tuple[float, float, float]:
    """Return the median of the ratios of each round, least and largest."""
    ratios = [a / b for a, b in zip(above, below)]
    return statistics.median(ratios), min(ratios), max(ratios)


@contextlib.contextmanager
def timed_parts(
    parts: Dict[str, List[Tuple[object, str]]], device: str
) -> Iterator[Dict[str, float]]:
    """Time methods of objects, part by part, while the context lasts.

    Args:
        parts: Pairs of object and method name for each part; none of the
            methods may call another one of them.
        device: Where they run.

    Yields:
        Seconds of each part, added up.
    """
    seconds = dict.fromkeys(parts, 0.0)

    def measure(part: str, method: Callable) -> Callable:
        def measured(*args, **kwargs):
            wait(device)
            begin = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                wait(device)
                seconds[part] += time.perf_counter() - begin

        return measured

    pairs = [(part, *pair) for part in parts for pair in parts[part]]
    for part, owner, name in pairs:
        # An attribute of the instance, in front of the class's method.
        owner.__dict__[name] = measure(part, getattr(owner, name))
    try:
        yield seconds
    finally:
        for _, owner, name in pairs:
            del owner.__dict__[name]


def count_flops(run: Callable[[], object]) -> int:
    """Return the floating-point operations of ``run()``, as torch counts."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def matmul_rate(dtype: torch.dtype, device: str, side: int = 2048) -> float:
    """Return FLOP/s of square matrix products, the median of nine."""
    left, right = torch.rand(2, side, side, device=device).to(dtype)
    torch.mm(left, right)
    seconds = [clock(lambda: torch.mm(left, right), device) for _ in range(9)]
    return 2 * side**3 / statistics.median(seconds)
