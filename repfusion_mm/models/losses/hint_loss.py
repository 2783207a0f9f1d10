"""Regression of the teacher's features."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.losses.utils import channel_variance, pool
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_choice, check_flags

CRITERIA = {'l2': F.mse_loss, 'l1': F.l1_loss}


@MODELS.register_module()
class HintLoss(DistillLoss):
    """Regress the teacher's features (FitNets, arXiv 1412.6550, eq. 3).

    The scale of the loss is that of the teacher's features, which varies
    between teachers: set ``normalizer`` of the distiller.

    Args:
        pooled: Compare globally pooled features. Otherwise resize the
            student's map to the teacher's grid and compare every pixel.
        criterion: ``'l2'`` (mean squared error) or ``'l1'``.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: ``criterion`` is neither, or another argument is outside
            its range.
    """

    needs_connector = True

    def __init__(
        self,
        pooled: bool = True,
        criterion: str = 'l2',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        place = 'model.distill_loss'
        check_choice(f'{place}.criterion', criterion, [*CRITERIA])
        check_flags(place, pooled=pooled)
        self.pooled = pooled
        self.criterion = CRITERIA[criterion]

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C x h x w against N x C x H x W."""
        if self.pooled:
            student_feat, teacher_feat = pool(student_feat), pool(teacher_feat)
        else:
            student_feat = resize_to(student_feat, teacher_feat.shape[-2:])
        return self.loss_weight * self.criterion(student_feat, teacher_feat)

    def constant_loss(
        self, teacher_feat: torch.Tensor
    ) -> Optional[torch.Tensor]:
        """Return the variance that the squared error is compared with."""
        if self.criterion is not F.mse_loss:
            return None
        if self.pooled:
            teacher_feat = teacher_feat.mean((2, 3), keepdim=True)
        return self.loss_weight * channel_variance(teacher_feat)
