"""Check layers that training does not change."""

from __future__ import annotations

import logging
from typing import Any, Collection

import torch.nn as nn
from mmengine.logging import print_log

from repfusion_mm.engine.checkpoint.initializers import SOURCE
from repfusion_mm.engine.optimizers.rates import trained_parameters
from repfusion_mm.engine.utils import unwrap_model
from repfusion_mm.models.utils.frozen_layers import (
    constant_statistics,
    fixed_statistics,
    freezing_settings,
    frozen_parameters,
    is_random,
)

RATES = (
    'set a learning rate above 0 by optim_wrapper{0}.optimizer.lr, '
    'optim_wrapper{0}.paramwise_cfg (lr_mult) and param_scheduler'
)


def check_student(runner: Any, loaded: Collection[str] = ()) -> None:
    """Refuse layers of the student that would keep random values.

    Layers with weights of a checkpoint may be frozen on purpose; they are
    logged. So are single parameters that a backbone's design freezes, and
    other parts of the model.

    Args:
        runner: The runner of a distillation, with all its parts.
        loaded: Names of the model's tensors that a checkpoint has set.

    Raises:
        ValueError: The student has batch norms without statistics in eval
            mode, random layers that are frozen, in no optimizer, or whose
            learning rate is always 0, or parameters that are not exported.
    """
    model = unwrap_model(runner)
    student = model.student
    names = [name for name, _ in student.named_parameters()]
    exported = student.state_dict()
    left_out = [name for name in names if name not in exported]
    if left_out:
        raise ValueError(
            f'expected a student of which all {len(names)} parameters are '
            f'exported, got {type(student).__name__}, whose state dict leaves '
            f'out {len(left_out)} ({left_out[0]} ...); set model.student to '
            'the backbone that it wraps'
        )
    fixed = fixed_statistics(student)  # and lets layers freeze what they do
    trained = trained_parameters(runner)
    idle = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter not in trained
    }
    frozen = {
        name[len('student.') :]: parameter
        for name, parameter in idle.items()
        if name.startswith('student.') and name not in model.unused_parameters
    }
    layers = dict(student.named_modules())
    random = [
        name
        for name in frozen
        if f'student.{name}' not in loaded
        # Layers, not single parameters such as position embeddings.
        and not list(layers[name.rpartition('.')[0]].children())
    ]
    settings = []
    if fixed or not all(p.requires_grad for p in frozen.values()):
        settings.append(_settings(runner, 'student'))
    if any(p.requires_grad for p in frozen.values()):
        settings.append(RATES.format('.student'))
    if fixed or (random and is_random(student)):
        raise ValueError(
            f'expected every layer of the student {type(student).__name__} to '
            f'be trained, got {len(random)} frozen parameters and '
            f'{len(fixed)} batch norms (in eval mode, or of momentum 0) that '
            f'would keep their initial values ({(random + fixed)[0]} ...); '
            f'{" and ".join(settings)}, or give the student weights by '
            "model.student.init_cfg=dict(type='Pretrained', "
            "_scope_='repfusion_mm', checkpoint=...)"
        )
    if frozen:
        print_log(
            f'student: {len(frozen)} of {len(names)} '
            f'tensors are frozen ({next(iter(frozen))} ...) and are exported '
            f'as they are loaded; to train them: {" and ".join(settings)}',
            logger='current',
            level=logging.WARNING,
        )
    others = [
        name
        for name, parameter in idle.items()
        if not name.startswith('student.') and parameter.requires_grad
    ]
    if others:
        print_log(
            f'{len(others)} tensors stay as they are initialized '
            f'({others[0]} ...); to train them, {RATES.format(".*")}',
            logger='current',
            level=logging.WARNING,
        )


def check_statistics(runner: Any) -> None:
    """Refuse batch norms whose statistics stay initial values."""
    fixed = fixed_statistics(unwrap_model(runner))
    if fixed:
        raise ValueError(
            'expected statistics for batch norms in eval mode, and a momentum '
            f'above 0 for the others, got initial values in {len(fixed)} '
            f'layers ({fixed[0]} ...); load weights, or '
            f'{_settings(runner, fixed[0])}'
        )


def check_finetuned(runner: Any, module: nn.Module) -> None:
    """Log a warning if finetuning does not change layers of a student.

    Args:
        runner: The runner of a finetuning.
        module: A backbone that ``StrictPretrained`` has loaded.
    """
    model = unwrap_model(runner)
    name = next(n for n, child in model.named_modules() if child is module)
    source = getattr(module, SOURCE, None)
    # Another module, or that of a distillation, which check_student checks.
    if source is None or name == 'student':
        return
    norms = constant_statistics(module)
    layers = dict(module.named_modules())
    frozen = [
        parameter
        for parameter in sorted(frozen_parameters(module))
        # Layers, not single parameters such as position embeddings.
        if not list(layers[parameter.rpartition('.')[0]].children())
    ]
    if not frozen and not norms:
        return
    parts = []
    if frozen:
        parts.append(f'{len(frozen)} tensors of {source[0]} are frozen')
    if norms:
        parts.append(
            f'{len(norms)} batch norms keep the statistics of the distillation'
        )
    print_log(
        f'{name}: {" and ".join(parts)} ({[*frozen, *norms][0]} ...): these '
        'layers do not adapt to the images of this run; to train them, '
        f'{_settings(runner, name)}',
        logger='current',
        level=logging.WARNING,
    )


def _settings(runner: Any, layer: str) -> str:
    """Return the settings that freeze a layer's part of the model."""
    config, path = runner.cfg.get('model'), 'model'
    for name in layer.split('.'):
        if not isinstance(config, dict) or not isinstance(
            config.get(name), dict
        ):
            break
        config, path = config[name], f'{path}.{name}'
    return freezing_settings(config, path)
