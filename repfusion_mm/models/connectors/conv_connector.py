"""Map student features to the teacher's channels and grid."""

from __future__ import annotations

from typing import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule

from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_integer


@MODELS.register_module()
class ConvConnector(BaseModule):
    """Map the student's channels to the teacher's with one convolution.

    Args:
        in_channels: Channels of the student's map.
        out_channels: Channels of the teacher's map.
        kernel_size: Side of the kernel, an odd number, so that the grid is
            kept.

    Raises:
        ValueError: ``kernel_size`` is not odd.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1
    ) -> None:
        super().__init__()
        check_integer('model.connector.kernel_size', kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(
                'expected model.connector.kernel_size to be an odd number, '
                f'got {kernel_size}; correct it'
            )
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2
        )

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Map N x in_channels x H x W to N x out_channels x H x W."""
        return self.conv(feat)


def resize_to(feat: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize N x C x h x w to ``size``, if it differs (bilinear)."""
    if tuple(feat.shape[-2:]) == tuple(size):
        return feat
    return F.interpolate(
        feat, size=tuple(size), mode='bilinear', antialias=True
    )
