"""Distillation losses L_kd between a student map and a teacher map."""

from __future__ import annotations

from typing import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.dist import all_reduce

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.registry import MODELS

CRITERIA = {'l2': F.mse_loss, 'l1': F.l1_loss}


class DistillLoss(nn.Module):
    """Compare student and teacher maps.

    ``loss(student_feat, teacher_feat)`` takes N x C_s x h x w and
    N x C_t x H x W and returns a scalar, zero where the two agree.
    """

    #: Whether C_s must equal C_t, so that a connector is needed.
    needs_connector = False
    #: Whether maps of one pixel leave nothing to compare.
    needs_grid = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight


@MODELS.register_module()
class HintLoss(DistillLoss):
    """Regress the teacher's features (FitNets, arXiv 1412.6550).

    Args:
        pooled: Compare globally pooled features. Otherwise resize the
            student's map to the teacher's grid and compare it densely.
        criterion: ``'l2'`` (mean squared error) or ``'l1'``.
        standardize: Bring each of the teacher's channels to mean zero and
            variance one over the batch. Without it, loss and student take
            the scale of the teacher's features, which may be tiny: those of
            one's own teacher are as large as its training made them. With
            it, an L2 loss of one says that the student knows no more than
            the mean, and zero that it knows all.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: ``criterion`` is neither.
    """

    needs_connector = True

    def __init__(
        self,
        pooled: bool = True,
        criterion: str = 'l2',
        standardize: bool = False,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        if criterion not in CRITERIA:
            raise ValueError(
                'expected HintLoss.criterion to be one of '
                f'{tuple(CRITERIA)}, got {criterion!r}'
            )
        self.pooled = pooled
        self.criterion: Callable = CRITERIA[criterion]
        self.standardize = standardize

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C x h x w against N x C x H x W."""
        if self.pooled:
            student_feat, teacher_feat = pool(student_feat), pool(teacher_feat)
        else:
            student_feat = resize_to(student_feat, teacher_feat.shape[-2:])
        if self.standardize:
            teacher_feat = standardize(teacher_feat)
        return self.loss_weight * self.criterion(student_feat, teacher_feat)


@MODELS.register_module()
class AttentionTransferLoss(DistillLoss):
    """Match where the features are large (AT, arXiv 1612.03928, eq. 2).

    The mean squared difference of the L2-normalised attention maps
    sum_c |F_c|^2. The student's map is resized to the teacher's grid.

    Args:
        loss_weight: Factor of the loss.
    """

    needs_grid = True

    def __init__(self, loss_weight: float = 1000.0) -> None:
        super().__init__(loss_weight)

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of N x C_s x h x w against N x C_t x H x W."""
        student_map = student_feat.pow(2).sum(1, keepdim=True)
        teacher_map = teacher_feat.pow(2).sum(1, keepdim=True)
        student_map = resize_to(student_map, teacher_map.shape[-2:])
        difference = F.mse_loss(
            F.normalize(student_map.flatten(1)),
            F.normalize(teacher_map.flatten(1)),
        )
        return self.loss_weight * difference


@MODELS.register_module()
class RelationalLoss(DistillLoss):
    """Match distances and angles between images (RKD, arXiv 1904.05068).

    On pooled features: smooth L1 between distances divided by their mean
    (eq. 6), and between the cosines of the angles of all triplets (eq. 8).

    The angle term takes O(N^2 C + N^3) memory for a batch of N: at N = 128,
    C = 1024 in float32, autograd holds 219 MB until the backward (measured).

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

        A batch of one image has no relations, and the loss is zero.
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


def pool(feat: torch.Tensor) -> torch.Tensor:
    """Average N x C x H x W over the grid, into N x C."""
    return feat.mean(dim=(2, 3))


def relative_std(feat: torch.Tensor) -> torch.Tensor:
    """Return how much pooled features differ between images.

    The standard deviation of N x C x H x W, pooled, over the N images, as a
    share of their root mean square: zero where all images look the same.
    """
    pooled = pool(feat.float())
    deviation = (pooled - pooled.mean(0)).pow(2).mean()
    return (deviation / pooled.pow(2).mean().clamp(min=1e-12)).sqrt()


def standardize(feat: torch.Tensor) -> torch.Tensor:
    """Bring each channel of N x C (x H x W) to mean zero, variance one.

    Mean and variance are those of the batches of all ranks, of equal size. A
    channel without spread (every channel, in a batch of one) becomes zero.
    """
    dims = [dim for dim in range(feat.dim()) if dim != 1]
    mean = feat.mean(dims, keepdim=True)
    all_reduce(mean, 'mean')
    centred = feat - mean
    variance = centred.pow(2).mean(dims, keepdim=True)
    all_reduce(variance, 'mean')
    return centred / variance.clamp(min=1e-12).sqrt()


def relative_distances(feat: torch.Tensor) -> torch.Tensor:
    """Return the N x N distances of N x C, divided by their mean."""
    squared = (feat[:, None] - feat[None]).pow(2).sum(-1)
    distances = _safe_sqrt(squared)
    count = len(feat) * (len(feat) - 1)
    return distances / (distances.sum() / count).clamp(min=1e-12)


def angle_cosines(feat: torch.Tensor) -> torch.Tensor:
    """Return N x N x N: entry [i, j, k] is the cosine at i of j and k."""
    edges = feat[None] - feat[:, None]
    edges = edges / _safe_sqrt(edges.pow(2).sum(-1, keepdim=True)).clamp(
        min=1e-12
    )
    return edges @ edges.transpose(1, 2)


def _safe_sqrt(squared: torch.Tensor) -> torch.Tensor:
    """Take the root with gradient zero, not infinity, at zero."""
    positive = squared > 0
    safe = torch.where(positive, squared, torch.ones_like(squared))
    return torch.where(positive, safe.sqrt(), torch.zeros_like(squared))
