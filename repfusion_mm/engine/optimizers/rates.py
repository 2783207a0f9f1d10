"""Find the parameters that an optimizer changes."""

from __future__ import annotations

from typing import Any, Set

import torch.nn as nn
from mmengine.optim import (
    ConstantParamScheduler,
    LinearParamScheduler,
    OptimWrapperDict,
)

#: Factors by which schedules divide, by their class.
DIVISORS = {
    LinearParamScheduler: 'start_factor',
    ConstantParamScheduler: 'factor',
}


def trained_parameters(runner: Any) -> Set[nn.Parameter]:
    """Return the parameters whose learning rate is not always 0.

    A learning rate of 0 stays 0 unless a schedule adds to it, as those with a
    positive ``eta_min`` do. What a schedule does after the run is not
    considered.

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
        for schedule in its_schedules or []:
            _check_divisor(schedule)
        adds = any(map(_adds_to_zero, its_schedules or []))
        for group in part.param_groups:
            if adds or _has_rate(group):
                trained.update(p for p in group['params'] if p.requires_grad)
    return trained


def _has_rate(group: dict) -> bool:
    """Return whether a group begins with a learning rate, or computes it."""
    rate = group.get('initial_lr', group.get('lr'))  # before any warmup
    return rate is None or rate > 0


def _check_divisor(schedule: Any) -> None:
    for kind, key in DIVISORS.items():
        if isinstance(schedule, kind) and getattr(schedule, key) == 0:
            raise ValueError(
                f'expected {type(schedule).__name__} with {key} above 0, got '
                '0, by which it divides; set a small one, such as 1e-3, in '
                'param_scheduler'
            )


def _adds_to_zero(schedule: Any) -> bool:
    """Return whether a schedule makes a learning rate of 0 larger."""
    return schedule.param_name == 'lr' and bool(
        getattr(schedule, 'eta_min', None)
    )
