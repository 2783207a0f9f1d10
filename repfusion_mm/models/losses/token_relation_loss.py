"""Match the similarities between the positions of an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_number


@MODELS.register_module()
class TokenRelationLoss(DistillLoss):
    """Match how similar the positions of an image are to each other.

    Each position has a distribution over all positions of its image: the
    softmax of the cosine similarities, divided by ``temperature``. The loss
    is the KL divergence of the student's from the teacher's, averaged over
    images and positions, as the local term of LightlyTrain's distillation v3.
    The student's map is resized to the teacher's grid. Channels need not
    agree.

    Cosines are at most 1, so that only similar positions count at a low
    temperature. The loss is not multiplied by the squared temperature.

    A grid of H x W has (HW)^2 similarities: for N images, autograd holds
    8 N (HW)^2 bytes until the backward pass, besides the features. At N = 32,
    this is 17 MB for 16 x 16, 268 MB for 32 x 32 and 4.3 GB for 64 x 64.
    Choose a coarse layer.

    Args:
        temperature: Divisor of the cosines.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: An argument is not above 0.
    """

    needs_grid = True

    def __init__(
        self, temperature: float = 0.07, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        check_number(
            'model.distill_loss.temperature', temperature, positive=True
        )
        self.temperature = temperature

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C_s x h x w against N x C_t x H x W."""
        student_feat = resize_to(student_feat, teacher_feat.shape[-2:])
        student, teacher = (
            similarities(feat).div(self.temperature).log_softmax(-1)
            for feat in (student_feat, teacher_feat)
        )
        divergence = F.kl_div(
            student, teacher, reduction='sum', log_target=True
        )
        num_rows = student.shape[0] * student.shape[1]
        return self.loss_weight * divergence / num_rows


def similarities(feat: torch.Tensor) -> torch.Tensor:
    """Return the N x HW x HW cosines of the positions of N x C x H x W."""
    units = F.normalize(feat.flatten(2))
    return units.transpose(1, 2) @ units
