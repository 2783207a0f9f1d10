"""Regression of the directions of the teacher's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.losses.utils import pool
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_flags


@MODELS.register_module()
class CosineHintLoss(DistillLoss):
    """Regress the directions of the teacher's features.

    The loss is 1 minus the cosine of the student's and the teacher's feature,
    averaged over images and positions: 0 to 2.

    Args:
        pooled: Compare globally pooled features. Otherwise resize the
            student's map to the teacher's grid and compare every pixel.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: An argument is outside its range.
    """

    needs_connector = True

    def __init__(self, pooled: bool = True, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        check_flags('model.distill_loss', pooled=pooled)
        self.pooled = pooled

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C x h x w against N x C x H x W."""
        if self.pooled:
            student_feat, teacher_feat = pool(student_feat), pool(teacher_feat)
        else:
            student_feat = resize_to(student_feat, teacher_feat.shape[-2:])
        # Half the squared distance of unit vectors is 1 - cosine, without its
        # rounding errors where features are similar.
        difference = F.normalize(student_feat) - F.normalize(teacher_feat)
        return self.loss_weight * difference.square().sum(1).mean() / 2
