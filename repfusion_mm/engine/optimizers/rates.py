"""Find the parameters that an optimizer changes."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Iterable, List, Set

import torch
import torch.nn as nn
from mmengine.optim import OptimWrapper, OptimWrapperDict


def trained_parameters(runner: Any) -> Set[nn.Parameter]:
    """Return the parameters whose learning rate is above 0 at some time.

    Args:
        runner: A runner with its optimizers and schedules.

    Raises:
        ValueError: A schedule would divide by zero.
    """
    wrapper: Any = runner.optim_wrapper
    schedules: Any = runner.param_schedulers
    parts = [(wrapper, schedules or [])]
    if isinstance(wrapper, OptimWrapperDict):
        parts = [
            (part, (schedules or {}).get(name) or [])
            for name, part in wrapper.items()
        ]
    return {
        parameter
        for part, its_schedules in parts
        for group, trained in zip(
            part.param_groups, _ever_trained(part, its_schedules, runner)
        )
        if trained
        for parameter in group['params']
        if parameter.requires_grad
    }


def _ever_trained(
    wrapper: OptimWrapper, schedules: Iterable[Any], runner: Any
) -> List[bool]:
    """Return whether each group's learning rate is above 0 at some time.

    Where it begins with 0, the schedules are tried on an optimizer of a few
    groups that have nothing to train.
    """
    if runner.iter > 0:  # resumed: the schedules may have ended with 0
        return [True] * len(wrapper.param_groups)
    schedules = [
        schedule
        for schedule in schedules
        if schedule.param_name == 'lr'
        and not getattr(schedule, 'need_val_args', False)
    ]
    # What the schedules depend on. Many groups have the same.
    states = [
        (_rate(group), *(schedule.base_values[i] for schedule in schedules))
        for i, group in enumerate(wrapper.param_groups)
    ]
    firsts: dict = {}
    for index, state in enumerate(states):
        if not state[0] > 0:
            firsts.setdefault(state, index)
    if not firsts:
        return [True] * len(states)
    optimizer = torch.optim.SGD(
        [
            {**wrapper.param_groups[i], 'params': [nn.Parameter()]}
            for i in firsts.values()
        ]
    )
    memo: dict = {id(schedule.optimizer): optimizer for schedule in schedules}
    schedules = copy.deepcopy(schedules, memo)
    for schedule in schedules:
        schedule.verbose = False
        schedule.base_values = [
            schedule.base_values[i] for i in firsts.values()
        ]
    highest = [0.0] * len(firsts)
    length = len(runner.train_dataloader)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # steps of schedules only
        for count in range(1, runner.max_iters if schedules else 0):
            for schedule in schedules:
                if not schedule.by_epoch or count % length == 0:
                    _step(schedule)
            rates = map(_rate, optimizer.param_groups)
            highest = [max(pair) for pair in zip(highest, rates)]
            if min(highest) > 0:
                break
    found = dict(zip(firsts, highest))
    return [state[0] > 0 or found[state] > 0 for state in states]


def _step(schedule: Any) -> None:
    try:
        schedule.step()
    except ZeroDivisionError as error:
        raise ValueError(
            f'expected {type(schedule).__name__} with a start_factor or '
            'factor above 0, got 0, by which it divides; set a small one, '
            'such as 1e-3, in param_scheduler'
        ) from error


def _rate(group: dict) -> float:
    """Return a group's learning rate, 1 if the optimizer finds it itself."""
    rate = group.get('lr')
    return 1.0 if rate is None else float(rate)
