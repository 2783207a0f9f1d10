"""Fixed mean and standard deviation of each channel."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch

from repfusion_mm.models.normalizers.base import (
    BaseNormalizer,
    average,
    discard,
    divide,
)
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class StandardizeNormalizer(BaseNormalizer):
    """Scale each channel to mean zero and variance one.

    Mean and variance are those of the first ``num_images`` images: of all
    positions, or of globally averaged maps if the loss compares these. A
    standardized L2 loss of one means that the student predicts the mean
    feature for every image. A channel whose standard deviation is below
    0.00001 of its mean becomes zero.

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
        variance = average(centered.square().mean((2, 3)).sum(0), count)
        self.variance.lerp_(variance, weight)
        self.variance += weight * (1 - weight) * delta.square()

    def normalize(
        self, feat: torch.Tensor, massive: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """Subtract the mean and divide by the standard deviation."""
        mean = self.mean[:, None, None]
        std = self.variance.sqrt()[:, None, None]
        return discard(divide(feat - mean, std, mean), massive)

    def describe(self) -> Dict[str, Any]:
        """Return type, settings, mean and standard deviation."""
        std = self.variance.sqrt()
        return dict(super().describe(), mean=self.mean.cpu(), std=std.cpu())
