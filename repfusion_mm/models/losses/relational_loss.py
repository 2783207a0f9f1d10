"""Relational knowledge distillation: match relations between images."""

from __future__ import annotations

import math
from typing import Tuple

import torch
import torch.nn.functional as F

from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.losses.utils import pool, unit_range
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_number

#: Shorter distances, relative to the largest feature, are rounding errors.
ROUNDING = 1e-6


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

    Raises:
        ValueError: A weight is negative, or both terms have none.
    """

    # Relative distances and angles of two images are always the same.
    min_images = 3
    pooled = True
    refused_normalizers = dict(
        PHISNormalizer=(
            'shifts, rotates and scales features, which changes neither '
            'relative distances nor angles'
        )
    )

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        place = 'model.distill_loss'
        check_number(f'{place}.distance_weight', distance_weight)
        check_number(f'{place}.angle_weight', angle_weight)
        check_number(
            f'{place}.distance_weight + angle_weight',
            distance_weight + angle_weight,
            positive=True,
        )
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C_s x h x w against N x C_t x H x W.

        Of one or two images, it has no gradient.
        """
        student, teacher = scaled_pool(student_feat), scaled_pool(teacher_feat)
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


def scaled_pool(feat: torch.Tensor) -> torch.Tensor:
    """Pool N x C x H x W to N x C, and divide by the largest magnitude."""
    return unit_range(pool(feat)[None])[0]


def relative_distances(feat: torch.Tensor) -> torch.Tensor:
    """Return the N x N distances of N x C, divided by their mean."""
    _, distances = edges(feat)
    count = len(feat) * (len(feat) - 1)
    mean = distances.sum() / count
    return distances / mean.masked_fill(mean == 0, 1)


def angle_cosines(feat: torch.Tensor) -> torch.Tensor:
    """Return N x N x N: entry [i, j, k] is the cosine at i of j and k."""
    vectors, lengths = edges(feat)
    divisors = lengths.masked_fill(lengths == 0, math.inf)
    directions = vectors / divisors[..., None]
    return directions @ directions.transpose(1, 2)


def edges(feat: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return N x N x C vectors between N x C features, and their lengths.

    Lengths within the rounding errors of the features, such as those between
    copies of an image, are zero and have no gradient: that of the direction
    of such a vector is unbounded.
    """
    vectors = feat[None] - feat[:, None]
    lengths = vectors.norm(dim=-1)
    tiny = lengths <= ROUNDING * feat.detach().norm(dim=-1).max()
    return vectors, lengths.masked_fill(tiny, 0)
