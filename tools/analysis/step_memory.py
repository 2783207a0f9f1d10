"""The memory of one variant's steps, in a process of its own."""

import argparse
import gc
import re
from pathlib import Path

import torch
from mmengine.config import Config
from step_variants import build_step, prepare

MB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the tool tells the process that it starts for this."""
    parser.add_argument('--memory-of', help=argparse.SUPPRESS)
    parser.add_argument('--memory-steps', type=int, help=argparse.SUPPRESS)


def measure(args: argparse.Namespace, cfg: Config, batches: list) -> dict:
    """Run steps, and return what they take, in MB.

    Returns:
        ``model``: of the parts, as they lie before the first step. ``peak``:
        the most during the steps, with the parts. ``grown``: from the end of
        the first fifth of the steps to the last.
    """
    before = in_use(args.device)
    step = build_step(args.memory_of, cfg, args.device)
    built = settled = in_use(args.device)
    # The first step may compile, which is not its memory.
    step.run(prepare(step, args.memory_of, batches[0]))
    reset_peak(args.device)
    for number in range(args.memory_steps):
        batch = batches[number % len(batches)]
        step.run(prepare(step, args.memory_of, batch))
        if number == args.memory_steps // 5:
            settled = in_use(args.device)
    return dict(
        steps=args.memory_steps,
        model=round(built - before, 1),
        peak=round(peak(args.device) - before, 1),
        grown=round(in_use(args.device) - settled, 1),
    )


def in_use(device: str) -> float:
    """Return the MB that the process, or its tensors on a GPU, take now."""
    if device == 'cuda':
        return torch.cuda.memory_allocated() / MB
    gc.collect()
    return _of_process('VmRSS')


def peak(device: str) -> float:
    """Return the most MB since ``reset_peak``."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / MB
    return _of_process('VmHWM')


def reset_peak(device: str) -> None:
    """Let ``peak`` begin anew."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5')


def _of_process(name: str) -> float:
    """Return an entry of Linux's account of this process, in MB."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(rf'{name}:\s+(\d+) kB', status)[1]) / 1024
