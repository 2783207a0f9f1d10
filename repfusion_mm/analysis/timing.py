"""Time steps and their parts, so that the figures of one run compare."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

import torch


def synchronize(device: str) -> None:
    """Wait for a GPU to finish its queued work."""
    if device == 'cuda':
        torch.cuda.synchronize()


def time_call(run: Callable[[], object], device: str) -> float:
    """Return the seconds that ``run()`` takes."""
    synchronize(device)
    begin = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - begin


def time_interleaved(
    prepare: Dict[str, Callable[[], Callable[[], object]]],
    rounds: int,
    warmup: int,
    device: str,
) -> Dict[str, List[float]]:
    """Time several steps round by round, under the same load of the machine.

    Args:
        prepare: Functions that prepare one step, which is not timed, and
            return it as a function.
        rounds: Number of timed rounds.
        warmup: Number of rounds before them that are not counted.
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        The seconds of each round.
    """
    times: Dict[str, List[float]] = {name: [] for name in prepare}
    for number in range(warmup + rounds):
        for name, prepare_step in prepare.items():
            seconds = time_call(prepare_step(), device)
            if number >= warmup:
                times[name].append(seconds)
    return times


@contextlib.contextmanager
def time_methods(
    parts: Dict[str, List[Tuple[object, str]]], device: str
) -> Iterator[Dict[str, float]]:
    """Time methods of objects within the context.

    Args:
        parts: Pairs of object and method name for each part. No method may
            call another one of them.
        device: ``'cpu'`` or ``'cuda'``.

    Yields:
        The total seconds of each part.
    """
    seconds = dict.fromkeys(parts, 0.0)

    def timed(part: str, method: Callable) -> Callable:
        def call(*args, **kwargs):
            synchronize(device)
            begin = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                synchronize(device)
                seconds[part] += time.perf_counter() - begin

        return call

    methods = [(part, *pair) for part in parts for pair in parts[part]]
    for part, owner, name in methods:
        # An attribute of the instance hides the method of its class.
        owner.__dict__[name] = timed(part, getattr(owner, name))
    try:
        yield seconds
    finally:
        for _, owner, name in methods:
            del owner.__dict__[name]


def summarize_ms(seconds: Sequence[float]) -> Dict[str, float]:
    """Return median, least and largest, in milliseconds."""
    ms = [1e3 * s for s in seconds]
    return dict(median=statistics.median(ms), least=min(ms), largest=max(ms))


def ratio_by_round(
    above: Sequence[float], below: Sequence[float]
) -> Tuple[float, float, float]:
    """Return the median, least and largest ratio within a round."""
    ratios = [a / b for a, b in zip(above, below)]
    return statistics.median(ratios), min(ratios), max(ratios)


def measure_matmul_rate(
    dtype: torch.dtype, device: str, side: int = 2048, rounds: int = 9
) -> float:
    """Return the median FLOP/s of square matrix products."""
    left, right = torch.rand(2, side, side, device=device).to(dtype)
    torch.mm(left, right)
    seconds = [
        time_call(lambda: torch.mm(left, right), device) for _ in range(rounds)
    ]
    return 2 * side**3 / statistics.median(seconds)
