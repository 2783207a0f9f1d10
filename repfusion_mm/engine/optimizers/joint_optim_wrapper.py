"""Step several optimizers after one backward pass."""

from __future__ import annotations

from typing import Any, ContextManager, Dict, Optional

import torch
import torch.nn as nn
from mmengine.optim import (
    AmpOptimWrapper,
    ApexOptimWrapper,
    OptimWrapper,
    OptimWrapperDict,
)


class JointOptimWrapper(OptimWrapperDict):
    """Step several optimizers after one backward pass of the summed loss.

    mmengine's ``OptimWrapperDict`` leaves the update to the model. The
    parameters of the parts are disjoint, so that each gradient equals that of
    a separate backward pass. Under AMP all parts share one gradient scaler;
    the gradient accumulation is the same for all; clipping, schedules and
    optimizer states are separate. The norm of a part's gradient is logged as
    ``student.grad_norm``, if it is clipped.

    Args:
        **optim_wrappers: One wrapper for each part.

    Raises:
        ValueError: The wrappers have an update of their own.
    """

    def __init__(self, **optim_wrappers: OptimWrapper) -> None:
        super().__init__(**optim_wrappers)
        for wrapper in optim_wrappers.values():
            check_update(wrapper)
        self._primary = next(iter(optim_wrappers.values()))
        for name, wrapper in optim_wrappers.items():
            if wrapper.clip_grad_kwargs:
                # All parts would append to one history. Learning rates are
                # logged as student.lr.
                wrapper.grad_name = f'{name}.{wrapper.grad_name}'
        if isinstance(self._primary, AmpOptimWrapper):
            for wrapper in optim_wrappers.values():
                wrapper.loss_scaler = self._primary.loss_scaler

    def update_params(
        self,
        loss: torch.Tensor,
        step_kwargs: Optional[Dict] = None,
        zero_kwargs: Optional[Dict] = None,
    ) -> None:
        """Run backward once, and step every optimizer if it is time to."""
        self.backward(self._primary.scale_loss(loss))
        if self._primary.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def backward(self, loss: torch.Tensor, **kwargs) -> None:
        """Run backward of the summed loss."""
        self._primary.backward(loss, **kwargs)

    def step(self, **kwargs) -> None:
        """Step every optimizer."""
        if not isinstance(self._primary, AmpOptimWrapper):
            for wrapper in self.values():
                wrapper.step(**kwargs)
            return
        # Replaces AmpOptimWrapper.step, which would update the shared scaler
        # once for each part.
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

    def optim_context(self, model: nn.Module) -> ContextManager:
        """Return the context of autocast and gradient accumulation."""
        return self._primary.optim_context(model)

    def initialize_count_status(
        self, model: nn.Module, init_counts: int, max_counts: int
    ) -> None:
        """Set the iteration count, for gradient accumulation."""
        self._primary.initialize_count_status(model, init_counts, max_counts)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the states of all parts, and refuse those of other parts."""
        if set(state_dict) != set(self.keys()):
            raise ValueError(
                f'expected optimizer states of {sorted(self.keys())}, got '
                f'{sorted(state_dict)}; resume with the config that wrote '
                'the checkpoint'
            )
        super().load_state_dict(state_dict)


def check_update(wrapper: OptimWrapper) -> None:
    """Refuse a wrapper whose update would not be called.

    Raises:
        ValueError: It is of Apex, or overrides ``update_params``, or ``step``
            of ``AmpOptimWrapper``.
    """
    kind: Any = type(wrapper)
    is_amp = isinstance(wrapper, AmpOptimWrapper)
    known = (
        kind.update_params is OptimWrapper.update_params
        and not isinstance(wrapper, ApexOptimWrapper)
        and not (is_amp and kind.step is not AmpOptimWrapper.step)
    )
    if not known:
        raise ValueError(
            'expected OptimWrapper, AmpOptimWrapper or BFloat16OptimWrapper '
            f'for several optimizers, got {kind.__name__}, whose own update '
            'would not be called; set optim_wrapper.type to one of them'
        )


def batches_per_update(wrapper: OptimWrapper) -> int:
    """Return how many batches' gradients one update accumulates."""
    if isinstance(wrapper, JointOptimWrapper):
        wrapper = wrapper._primary
    return getattr(wrapper, '_accumulative_counts', 1)
