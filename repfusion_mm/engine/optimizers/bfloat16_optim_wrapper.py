"""Mixed precision with bfloat16."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from repfusion_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Train in mixed precision with bfloat16, on a CPU or a GPU.

    Weights and gradients are float32; forward passes run under autocast.
    bfloat16 has the range of float32, so that the loss is not scaled.
    mmengine's ``AmpOptimWrapper`` scales it, and needs a GPU.

    Args:
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Add autocast to the context of gradient accumulation."""
        device = self.optimizer.param_groups[0]['params'][0].device
        autocast = torch.autocast(device.type, dtype=torch.bfloat16)
        with super().optim_context(model), autocast:
            yield
