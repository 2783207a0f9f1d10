"""Attention transfer: match the places of large features."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.losses.utils import unit_range
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class AttentionTransferLoss(DistillLoss):
    """Match attention maps (AT, arXiv 1612.03928, eq. 2).

    The loss is the mean squared difference of the L2-normalized attention
    maps ``sum_c |F_c|^2``. The student's map is resized to the teacher's grid.

    Args:
        loss_weight: Factor of the loss.
    """

    needs_grid = True
    refused_normalizers = dict(
        LayerNormNormalizer=(
            'gives all positions the same norm, so that attention maps are '
            'constant'
        )
    )

    def __init__(self, loss_weight: float = 1000.0) -> None:
        super().__init__(loss_weight)

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C_s x h x w against N x C_t x H x W."""
        student_map = unit_range(student_feat).pow(2).sum(1, keepdim=True)
        teacher_map = unit_range(teacher_feat).pow(2).sum(1, keepdim=True)
        student_map = resize_to(student_map, teacher_map.shape[-2:])
        difference = F.mse_loss(
            F.normalize(student_map.flatten(1)),
            F.normalize(teacher_map.flatten(1)),
        )
        return self.loss_weight * difference
