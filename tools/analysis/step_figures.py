"""Time, arithmetic and features of the steps of benchmark_distill.py."""

import argparse
import copy
from typing import Dict, List

import torch
from measuring import (
    clock,
    count_flops,
    interleave,
    matmul_rate,
    summarize,
    timed_parts,
)
from memory_policy import can_be_kept, keep_memory
from step_variants import GIVING_BACK, REFERENCE, Step, prepare

from repfusion_mm.models.losses.losses import pool


def time_steps(
    steps: Dict[str, Step], batches: list, args: argparse.Namespace
) -> Dict[str, List[float]]:
    """Time one step of each in turn; see ``interleave``."""
    count = 0
    kept = None

    def preparer(name: str):
        def prepare_one():
            nonlocal count, kept
            count += 1
            batch = batches[count % len(batches)]
            keep = name not in GIVING_BACK
            if can_be_kept(args.device) and kept != keep:
                kept = keep
                keep_memory(keep)
                # So that there is something to keep, or to give back.
                steps[name].run(prepare(steps[name], name, batch))
            data = prepare(steps[name], name, batch)
            return lambda: steps[name].run(data)

        return prepare_one

    # Those that give memory back one after the other.
    order = sorted(steps, key=lambda name: name not in GIVING_BACK)
    runs = {name: preparer(name) for name in order}
    times = interleave(runs, args.rounds, args.warmup, args.device)
    if can_be_kept(args.device):
        keep_memory(True)
    return {name: times[name] for name in steps}


def time_parts(step: Step, batches: list, args: argparse.Namespace) -> dict:
    """Return the milliseconds of each part of our step, and of all."""
    model, wrapper = step.model, step.optim_wrapper
    parts = {
        'data': [(model.data_preprocessor, 'forward'), (model, 'images')],
        'teacher': [(model.teacher, 'forward')],
        'student': [(model.student, 'forward')],
        'policy and decoder': [(model.policy, 'forward')],
        'backward': [(wrapper, 'backward')],
        'optimizers': [(wrapper, 'step'), (wrapper, 'zero_grad')],
    }
    if model.policy.learnable:
        parts['policy and decoder'].append((model.policy, 'loss'))
    if model.decoder is not None:
        parts['policy and decoder'].append((model.decoder, 'loss'))
    rows = []
    for _ in range(args.rounds):
        data = copy.deepcopy(batches[0])
        with timed_parts(parts, args.device) as seconds:
            whole = clock(lambda d=data: step.run(d), args.device)
        seconds['rest'] = whole - sum(seconds.values())
        rows.append(dict(seconds, all=whole))
    return {name: summarize([r[name] for r in rows]) for name in rows[0]}


def count_arithmetic(
    steps: Dict[str, Step], batches: list, device: str
) -> dict:
    """Count FLOP, and what share of the device's rate ours reaches.

    Forward passes are counted, and a backward is taken as two of them: torch
    counts that of grouped convolutions many times too high.
    """
    model = steps['ours'].model
    with model.teacher.feature_extractor.uncompiled():
        return _count(steps, batches, device)


def _count(steps: Dict[str, Step], batches: list, device: str) -> dict:
    model = steps['ours'].model
    inputs, images, timesteps = prepare(steps['ours'], 'floor', batches[0])
    teacher = count_flops(lambda: model.teacher(images, timesteps))
    student = count_flops(lambda: model.student(inputs))
    data = model.data_preprocessor(copy.deepcopy(batches[0]), True)
    forward = count_flops(lambda: model(**data, mode='loss'))
    trained = 3 * (forward - teacher)
    flops = dict(ours=teacher + trained, floor=teacher + 3 * student)
    if REFERENCE in steps:
        whole = steps[REFERENCE].model.teacher
        flops[REFERENCE] = trained + count_flops(
            lambda: whole(images, timesteps)
        )
    dtype = model.teacher.denoiser.dtype
    rates = {
        str(kind).split('.')[1]: matmul_rate(kind, device)
        for kind in {torch.float32, dtype}
    }
    at_peak = teacher / rates[str(dtype).split('.')[1]]
    at_peak += trained / rates['float32']
    return dict(
        teacher_flop=teacher, step_flop=flops, flop_per_second=rates,
        seconds_at_these_rates=at_peak,
    )  # fmt: skip


def compare_features(
    steps: Dict[str, Step], batches: list
) -> Dict[str, Dict[str, float]]:
    """Compare the teachers' features with those of the one in float32.

    Returns:
        For each other type the norm of the difference, divided by the norm:
        of the maps, and of pooled features.
    """
    exact = steps.get('teacher in float32')
    if exact is None:
        return {}
    _, images, timesteps = prepare(exact, 'floor', batches[0])

    def features(step: Step) -> List[torch.Tensor]:
        feats = step.model.teacher(images, timesteps).values()
        return [f for feat in feats for f in (feat, pool(feat))]

    expected = features(exact)
    found = {}
    for name in ('teacher in bfloat16', 'teacher in float16'):
        if name not in steps:
            continue
        errors = [
            ((feat - other).norm() / other.norm()).item()
            for feat, other in zip(features(steps[name]), expected)
        ]
        found[name] = dict(maps=max(errors[::2]), pooled=max(errors[1::2]))
    return found
