"""Layer normalization of each position."""

from __future__ import annotations

from typing import Optional

import torch

from repfusion_mm.models.normalizers.base import (
    PLACE,
    BaseNormalizer,
    divide_by_std,
    zero_channels,
)
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class LayerNormNormalizer(BaseNormalizer):
    """Scale each position to mean zero and variance one over its channels.

    There are no parameters and, except for massive channels, no statistics
    (DreamTeacher, arXiv 2307.07487). Massive channels are not part of a
    position's mean and variance.

    Args:
        num_channels: C of the layer; the distiller sets it.
        num_images: Number of images from which massive channels are found,
            1024 by default; only with ``discard_massive``.
        discard_massive: See :class:`BaseNormalizer`.

    Raises:
        ValueError: ``num_images`` is set without ``discard_massive``.
    """

    def __init__(
        self,
        num_channels: int,
        num_images: Optional[int] = None,
        discard_massive: Optional[float] = None,
    ) -> None:
        if num_images is None:
            num_images = 0 if discard_massive is None else 1024
        elif discard_massive is None:
            raise ValueError(
                'expected no number of images for LayerNormNormalizer, which '
                f'has no statistics without discard_massive, got {num_images}'
                f'; remove {PLACE}.num_images'
            )
        super().__init__(num_channels, num_images, discard_massive)

    def normalize(
        self, feat: torch.Tensor, massive: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """Normalize over the channels that are kept."""
        # new_full, unlike torch.tensor, does not copy from the host.
        kept = feat.new_full((), self.num_channels)
        if massive is not None:
            kept = kept - massive.sum()
        mean = zero_channels(feat, massive).sum(1, keepdim=True) / kept
        centered = zero_channels(feat - mean, massive)
        std = (centered.square().sum(1, keepdim=True) / kept).sqrt()
        return divide_by_std(centered, std, mean)
