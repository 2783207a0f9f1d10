"""Check layers that training does not change."""

from __future__ import annotations

import logging
from typing import Any

import torch.nn as nn
from mmengine.logging import print_log

from repfusion_mm.models.utils.frozen_layers import (
    fixed_statistics,
    freezing_settings,
    is_random,
)


def check_student(model: Any) -> None:
    """Refuse layers of the student that would keep random values.

    Layers with weights of a checkpoint may be frozen on purpose; they are
    logged. So are single parameters that a backbone's design freezes.
    """
    student = model.student
    layers = dict(student.named_modules())
    frozen = [
        name
        for name in model.frozen_parameters
        if _is_layer(layers[name.rpartition('.')[0]])
    ]
    fixed = fixed_statistics(student)
    settings = freezing_settings(student, 'model.student')
    if fixed or (frozen and is_random(student)):
        raise ValueError(
            f'expected every layer of the student {type(student).__name__} to '
            f'be trained, got {len(frozen)} frozen parameters and '
            f'{len(fixed)} batch norms in eval mode that would keep their '
            f'initial values ({(frozen + fixed)[0]} ...); set {settings}, or '
            'give the student weights by model.student.init_cfg=dict('
            "type='Pretrained', _scope_='repfusion_mm', checkpoint=...)"
        )
    if frozen:
        print_log(
            f'student: {len(frozen)} of {len(list(student.parameters()))} '
            f'tensors are frozen ({frozen[0]} ...) and are exported as '
            f'they are loaded; to train them, set {settings}',
            logger='current',
            level=logging.WARNING,
        )


def check_statistics(model: nn.Module) -> None:
    """Refuse batch norms in eval mode that have no statistics."""
    fixed = fixed_statistics(model)
    if fixed:
        raise ValueError(
            'expected statistics for batch norms in eval mode, got their '
            f'initial values in {len(fixed)} layers ({fixed[0]} ...); load '
            f'weights, or set {freezing_settings(model, "model")}'
        )


def _is_layer(module: nn.Module) -> bool:
    """Return whether a module has parameters and no modules in it."""
    return not list(module.children())
