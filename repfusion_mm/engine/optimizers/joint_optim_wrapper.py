"""One backward, several optimizers."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from typing import Dict, Iterator, Optional

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import (
    AmpOptimWrapper,
    OptimWrapper,
    OptimWrapperDict,
    build_optim_wrapper,
)

from repfusion_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


class JointOptimWrapper(OptimWrapperDict):
    """Step several optimizers behind one backward of one loss.

    The parts' parameters are disjoint, so that each gradient is as if every
    part had a backward of its own. Under AMP all parts share one gradient
    scaler; accumulation counts are the same for all; clipping, schedules and
    states are each part's own.

    Args:
        **optim_wrappers: One wrapper for each part.
    """

    def __init__(self, **optim_wrappers: OptimWrapper) -> None:
        super().__init__(**optim_wrappers)
        self._primary = next(iter(optim_wrappers.values()))
        if isinstance(self._primary, AmpOptimWrapper):
            for wrapper in optim_wrappers.values():
                wrapper.loss_scaler = self._primary.loss_scaler

    def update_params(
        self,
        loss: torch.Tensor,
        step_kwargs: Optional[Dict] = None,
        zero_kwargs: Optional[Dict] = None,
    ) -> None:
        """Run backward once, and step every optimizer when it is time."""
        self.backward(self._primary.scale_loss(loss))
        if self._primary.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def backward(self, loss: torch.Tensor, **kwargs) -> None:
        """Run backward of the summed loss once."""
        self._primary.backward(loss, **kwargs)

    def step(self, **kwargs) -> None:
        """Step every optimizer."""
        if not isinstance(self._primary, AmpOptimWrapper):
            for wrapper in self.values():
                wrapper.step(**kwargs)
            return
        # AmpOptimWrapper.step would update the shared scaler once a part.
        scaler = self._primary.loss_scaler
        for wrapper in self.values():
            if wrapper.clip_grad_kwargs:
                scaler.unscale_(wrapper.optimizer)
                wrapper._clip_grad()
            scaler.step(wrapper.optimizer, **kwargs)
        scaler.update(self._primary._scale_update_param)

    def zero_grad(self, **kwargs) -> None:
        """Clear the gradients of every part."""
        for wrapper in self.values():
            wrapper.zero_grad(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter the context of autocast and gradient accumulation."""
        with self._primary.optim_context(model):
            yield

    def initialize_count_status(
        self, model: nn.Module, init_counts: int, max_counts: int
    ) -> None:
        """Tell the iteration count, for gradient accumulation."""
        self._primary.initialize_count_status(model, init_counts, max_counts)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the states of all parts.

        Raises:
            ValueError: The parts are not the same.
        """
        if set(state_dict) != set(self.keys()):
            raise ValueError(
                f'expected optimizer states of {sorted(self.keys())}, got '
                f'{sorted(state_dict)}; resume with the config that wrote '
                'the checkpoint'
            )
        super().load_state_dict(state_dict)


def batches_per_update(wrapper: OptimWrapper) -> int:
    """Return how many batches' gradients one update accumulates."""
    wrapper = getattr(wrapper, '_primary', wrapper)
    return getattr(wrapper, '_accumulative_counts', 1)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Build one optimizer for each part of a model.

    The model says what its parts are (``model.optim_parts()``). In the
    config, each part is a key with an ordinary ``optim_wrapper``; all other
    keys (``type``, ``loss_scale``, ``accumulative_counts``) hold for every
    part, so that ``--amp`` of any OpenMMLab tool works as usual::

        optim_wrapper = dict(
            constructor='repfusion_mm.MultiOptimWrapperConstructor',
            student=dict(optimizer=dict(type='SGD', lr=0.1)),
            policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
            decoder=dict(optimizer=dict(type='Adam', lr=1e-3)))

    A part without parameters (a policy that is not learned) gets none.

    Args:
        optim_wrapper_cfg: The config above, without ``constructor``.
        paramwise_cfg: mmengine's parameter-wise settings, for every part.

    Raises:
        ValueError: A part without optimizer, an unknown part, an accumulation
            count of one part alone, or a learning rate that is no number.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None
    ) -> None:
        self.config = optim_wrapper_cfg
        self.paramwise_cfg = paramwise_cfg

    def __call__(self, model: nn.Module) -> JointOptimWrapper:
        """Build the optimizers of ``model``."""
        model = model.module if is_model_wrapper(model) else model
        parts = model.optim_parts()
        own = {name: self.config.get(name) for name in parts}
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
            if own[name] is None:
                raise ValueError(
                    f'expected an optimizer for the {name}, got none; add '
                    f'optim_wrapper.{name}=dict(optimizer=...)'
                )
            wrappers[name] = self._build(name, part, shared, own[name])
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
