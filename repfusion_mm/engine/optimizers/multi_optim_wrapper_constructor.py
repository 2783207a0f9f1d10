"""Build one optimizer for each part of a model."""

from __future__ import annotations

import copy
import math
from typing import Any, Optional

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, build_optim_wrapper

from repfusion_mm.engine.optimizers.joint_optim_wrapper import (
    JointOptimWrapper,
)
from repfusion_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Build one optimizer for each part of a model.

    ``model.optim_parts()`` returns the parts by name. In the config, each
    part is a key with an ordinary ``optim_wrapper``; all other keys
    (``type``, ``loss_scale``, ``accumulative_counts``) apply to every part,
    so that ``--amp`` of any OpenMMLab tool works as usual::

        optim_wrapper = dict(
            constructor='repfusion_mm.MultiOptimWrapperConstructor',
            student=dict(optimizer=dict(type='SGD', lr=0.1)),
            policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
            decoder=dict(optimizer=dict(type='Adam', lr=1e-3)))

    A part without trainable parameters (a fixed policy) gets no optimizer.

    Args:
        optim_wrapper_cfg: The config above, without ``constructor``.
        paramwise_cfg: mmengine's parameter-wise settings, for every part.

    Raises:
        ValueError: When called: a part has no optimizer, a part is unknown,
            ``type``, ``accumulative_counts``, ``loss_scale`` or ``dtype`` is
            set for a single part, or a learning rate is negative, NaN or Inf.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None
    ) -> None:
        self.config = optim_wrapper_cfg
        self.paramwise_cfg = paramwise_cfg

    def __call__(self, model: Any) -> JointOptimWrapper:
        """Build the optimizers of ``model``."""
        model = model.module if is_model_wrapper(model) else model
        parts = model.optim_parts()
        shared = {k: v for k, v in self.config.items() if k not in parts}
        unknown = [
            key
            for key, value in shared.items()
            if isinstance(value, dict) and 'optimizer' in value
        ]
        if unknown:
            raise ValueError(
                f'expected optim_wrapper to have the parts {sorted(parts)}, '
                f'got {unknown}; correct the name'
            )
        wrappers = {}
        for name, part in parts.items():
            if not any(p.requires_grad for p in part.parameters()):
                print_log(
                    f'{name}: no parameters to train, no optimizer',
                    logger='current',
                )
                continue
            config = self.config.get(name)
            if config is None:
                raise ValueError(
                    f'expected an optimizer for the {name}, got none; add '
                    f'optim_wrapper.{name}=dict(optimizer=...)'
                )
            wrappers[name] = self._build(name, part, shared, config)
        return JointOptimWrapper(**wrappers)

    def _build(
        self, name: str, part: nn.Module, shared: dict, own: dict
    ) -> OptimWrapper:
        if {'type', 'accumulative_counts', 'loss_scale', 'dtype'} & set(own):
            raise ValueError(
                'expected type, accumulative_counts, loss_scale and dtype '
                f'once for all parts, got them in optim_wrapper.{name}; move '
                'them up to optim_wrapper'
            )
        rate = own.get('optimizer', {}).get('lr', 0.0)
        if not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
            raise ValueError(
                f'expected optim_wrapper.{name}.optimizer.lr to be a number '
                f'of 0 or more, got {rate!r}; correct it'
            )
        config = copy.deepcopy({**shared, **own})
        config.setdefault('type', 'OptimWrapper')
        config.setdefault('paramwise_cfg', self.paramwise_cfg)
        return build_optim_wrapper(part, config)
