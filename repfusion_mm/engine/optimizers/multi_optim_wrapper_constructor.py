"""Build one optimizer for each part of a model."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any, Dict, Iterable, Optional

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIMIZERS

from repfusion_mm.engine.optimizers.checks import (
    ReadKeys,
    check_clip_grad,
    check_custom_keys,
    wrapper_arguments,
)
from repfusion_mm.engine.optimizers.joint_optim_wrapper import (
    JointOptimWrapper,
)
from repfusion_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from repfusion_mm.utils.types import resolve_type

#: What constructors raise for wrong settings.
BUILD_ERRORS = (
    AssertionError, KeyError, NotImplementedError, TypeError, ValueError,
)  # fmt: skip
#: What a part has of its own.
PART_KEYS = {'optimizer', 'constructor', 'paramwise_cfg'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Build one optimizer for each part of a model.

    ``model.optim_parts()`` returns the parts by name. In the config, each
    part is a key with an ordinary ``optim_wrapper``; all other keys
    (``type``, ``loss_scale``, ``accumulative_counts``) apply to every part,
    so that ``--amp`` of any OpenMMLab tool works as usual::

        optim_wrapper = dict(
            type='OptimWrapper',
            constructor='repfusion_mm.MultiOptimWrapperConstructor',
            student=dict(optimizer=dict(type='SGD', lr=0.1)),
            policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
            decoder=dict(optimizer=dict(type='Adam', lr=1e-3)))

    A part without trainable parameters (a fixed policy) gets no optimizer.

    Args:
        optim_wrapper_cfg: The config above, without ``constructor``.
        paramwise_cfg: mmengine's parameter-wise settings, for every part.

    Raises:
        ValueError: When called: a part has no optimizer; there is a setting
            that no part would read, such as a part that the model does not
            have, or ``optimizer`` outside a part; ``type``,
            ``accumulative_counts``, ``loss_scale`` or ``dtype`` is set for a
            single part; or a learning rate is negative, NaN or Inf.
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
        shared = {
            key: value
            for key, value in self.config.items()
            if key not in parts and value is not None
        }
        self._check_names(shared, parts)
        wrappers: Dict[str, OptimWrapper] = {}
        for name, part in parts.items():
            config = self.config.get(name)
            if not any(p.requires_grad for p in part.parameters()):
                unused = (
                    f': optim_wrapper.{name} is not used' if config else ''
                )
                print_log(
                    f'{name}: no parameters to train, no optimizer{unused}',
                    logger='current',
                    level=logging.WARNING if config else logging.INFO,
                )
                continue
            if config is None:
                raise ValueError(
                    f'expected an optimizer for the {name}, got none; add '
                    f'optim_wrapper.{name}=dict(optimizer=...)'
                )
            wrappers[name] = self._build(name, part, shared, config)
            own = config.get('paramwise_cfg')
            if own is not None:
                check_custom_keys(own, [part], f'optim_wrapper.{name}')
        if self.paramwise_cfg:
            readers = [
                parts[name]
                for name in wrappers
                if self.config[name].get('paramwise_cfg') is None
            ]
            check_custom_keys(self.paramwise_cfg, readers, 'optim_wrapper')
        return JointOptimWrapper(**wrappers)

    def _check_names(self, shared: dict, parts: Iterable[str]) -> None:
        """Refuse settings that belong to a part, or to nothing."""
        known = wrapper_arguments(self.config.get('type', 'OptimWrapper'))
        unknown = sorted(shared.keys() - known)
        if unknown:
            examples = ', '.join(
                f'optim_wrapper.{part}.optimizer' for part in parts
            )
            raise ValueError(
                f'expected optim_wrapper to have the parts {sorted(parts)} '
                f'and {sorted(known)} for all of them, got {unknown}, which '
                f'no part would read; correct the name, or set {examples}'
            )

    def _build(
        self, name: str, part: nn.Module, shared: dict, own: dict
    ) -> OptimWrapper:
        if {'type', 'accumulative_counts', 'loss_scale', 'dtype'} & set(own):
            raise ValueError(
                'expected type, accumulative_counts, loss_scale and dtype '
                f'once for all parts, got them in optim_wrapper.{name}; move '
                'them up to optim_wrapper'
            )
        rate = (own.get('optimizer') or {}).get('lr', 0.0)
        if not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
            raise ValueError(
                f'expected optim_wrapper.{name}.optimizer.lr to be a number '
                f'of 0 or more, got {rate!r}; correct it'
            )
        optimizer = own.get('optimizer')
        if resolve_type(optimizer, OPTIMIZERS) is None:
            raise ValueError(
                f'expected optim_wrapper.{name}.optimizer with the type of an '
                f'optimizer, such as SGD or AdamW, got {optimizer}; correct it'
            )
        known = wrapper_arguments(self.config.get('type', 'OptimWrapper'))
        unknown = sorted(own.keys() - known - PART_KEYS)
        if unknown:
            raise ValueError(
                f'expected {sorted(PART_KEYS | known)} in '
                f'optim_wrapper.{name}, got {unknown}; settings of the '
                f'optimizer are in optim_wrapper.{name}.optimizer'
            )
        config = copy.deepcopy({**shared, **own})
        config.setdefault('type', 'OptimWrapper')
        paramwise_cfg = config.get('paramwise_cfg', self.paramwise_cfg)
        read = ReadKeys(paramwise_cfg or {})
        try:
            wrapper = build_optim_wrapper(
                part, {**config, 'paramwise_cfg': read}
            )
            check_clip_grad(wrapper)
        except BUILD_ERRORS as error:
            raise ValueError(
                f'expected settings in optim_wrapper.{name} of which an '
                f'optimizer can be built, got {config}: {error!r}; correct '
                'them'
            ) from error
        read.check()
        return wrapper
