"""Fixed mean and standard deviation of each channel."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch

from repfusion_mm.models.normalizers.base import (
    BaseNormalizer,
    all_reduce_mean,
    divide_by_std,
    zero_channels,
)
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class StandardizeNormalizer(BaseNormalizer):
    """Standardize each channel to zero mean and unit variance.

    Mean and variance are those of the first ``num_images`` images: of all
    positions, or of globally averaged maps if the loss compares these. On
    standardized maps, predicting the mean feature for every image gives an L2
    loss of 1. A channel whose standard deviation is at most 1e-5 times
    its absolute mean becomes zero.

    Args:
        num_channels: C of the layer; the distiller sets it.
        num_images: See :class:`BaseNormalizer`.
        discard_massive: See :class:`BaseNormalizer`.
    """

    variance: torch.Tensor

    def __init__(
        self,
        num_channels: int,
        num_images: int = 1024,
        discard_massive: Optional[float] = None,
    ) -> None:
        super().__init__(num_channels, num_images, discard_massive)
        self.register_buffer('mean', torch.zeros(num_channels))
        self.register_buffer('variance', torch.zeros(num_channels))

    def update(
        self, feat: torch.Tensor, count: torch.Tensor, weight: torch.Tensor
    ) -> None:
        """Add a batch to mean and variance."""
        super().update(feat, count, weight)
        centered, delta = self.update_mean(feat, count, weight)
        variance = all_reduce_mean(
            centered.square().mean((2, 3)).sum(0), count
        )
        self.variance.lerp_(variance, weight)
        self.variance += weight * (1 - weight) * delta.square()

    def normalize(
        self, feat: torch.Tensor, massive: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """Subtract the mean and divide by the standard deviation."""
        mean = self.mean[:, None, None]
        std = self.variance.sqrt()[:, None, None]
        return zero_channels(divide_by_std(feat - mean, std, mean), massive)

    def describe(self) -> Dict[str, Any]:
        """Return type, settings, mean and standard deviation."""
        std = self.variance.sqrt()
        return dict(super().describe(), mean=self.mean.cpu(), std=std.cpu())
