"""Find the parameters that an optimizer changes."""

from __future__ import annotations

from typing import Any, Set

import torch.nn as nn
from mmengine.optim import (
    ConstantParamScheduler,
    LinearParamScheduler,
    OptimWrapperDict,
)

DIVISORS = {
    LinearParamScheduler: 'start_factor',
    ConstantParamScheduler: 'factor',
}


def trained_parameters(runner: Any) -> Set[nn.Parameter]:
    """Return the parameters whose learning rate is not always 0.

    A rate of 0 stays 0 unless a schedule adds to it, as those with a positive
    ``eta_min`` do. What a schedule does after the run is not considered.

    Args:
        runner: A runner with its optimizers and schedules.

    Raises:
        ValueError: A schedule would divide by zero.
    """
    wrapper: Any = runner.optim_wrapper
    schedules: Any = runner.param_schedulers
    parts = [(wrapper, schedules)]
    if isinstance(wrapper, OptimWrapperDict):
        parts = [
            (part, (schedules or {}).get(name))
            for name, part in wrapper.items()
        ]
    trained: Set[nn.Parameter] = set()
    for part, its_schedules in parts:
        raised = sum(map(_may_raise, its_schedules or []))
        for group in part.param_groups:
            if raised or _has_rate(group):
                trained.update(p for p in group['params'] if p.requires_grad)
    return trained


def _has_rate(group: dict) -> bool:
    """Return whether a group begins with a rate, or computes it itself."""
    rate = group.get('initial_lr', group.get('lr'))  # before any warmup
    return rate is None or rate > 0


def _may_raise(schedule: Any) -> bool:
    """Return whether a schedule makes a rate of 0 larger."""
    for kind, key in DIVISORS.items():
        if isinstance(schedule, kind) and getattr(schedule, key) == 0:
            raise ValueError(
                f'expected {type(schedule).__name__} with {key} above 0, got '
                '0, by which it divides; set a small one, such as 1e-3, in '
                'param_scheduler'
            )
    return schedule.param_name == 'lr' and bool(
        getattr(schedule, 'eta_min', None)
    )
