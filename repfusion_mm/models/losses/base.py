"""The interface of a distillation loss L_kd."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Dict, Optional

import torch
import torch.nn as nn

from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.utils.arguments import check_number


class DistillLoss(nn.Module, ABC):
    """Compare a student map with a teacher map.

    To add a loss, register a subclass in ``MODELS`` and implement ``forward``.
    It is called without autocast, on maps of float32 or float64: distances
    between similar features are lost in bfloat16.

    Args:
        loss_weight: Factor of the loss.

    Raises:
        ValueError: ``loss_weight`` is not above 0.
    """

    #: Whether C_s must equal C_t, so that a connector is needed.
    needs_connector = False
    #: Whether both maps must have more than one pixel.
    needs_grid = False
    #: Number of images of a process with which it is not constant.
    min_images = 1
    #: Whether globally averaged maps are compared.
    pooled = False
    #: Normalizers that have no useful effect with this loss, and why.
    refused_normalizers: Dict[str, str] = {}

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_number(
            'model.distill_loss.loss_weight', loss_weight, positive=True
        )
        self.loss_weight = loss_weight

    def __call__(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Call ``forward`` in float32 or float64, also under autocast.

        Raises:
            ValueError: The loss compares positions, and a map has only one.
        """
        pixels = [x.shape[-2:].numel() for x in (student_feat, teacher_feat)]
        if self.needs_grid and min(pixels) == 1:
            who = ('student', 'teacher')[pixels.index(1)]
            raise ValueError(
                f'expected maps of several pixels for {type(self).__name__}, '
                f"which compares positions, got the {who}'s of 1 x 1; use "
                'larger images, an earlier stage or layer, or another '
                'model.distill_loss'
            )
        feats = [
            feat.to(torch.promote_types(feat.dtype, torch.float32))
            for feat in (student_feat, teacher_feat)
        ]
        with without_autocast(student_feat.device):
            return super().__call__(*feats)

    @abstractmethod
    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return a scalar, zero if the two maps agree.

        Args:
            student_feat: N x C_s x h x w.
            teacher_feat: N x C_t x H x W, without gradients.
        """

    def constant_loss(
        self, teacher_feat: torch.Tensor
    ) -> Optional[torch.Tensor]:
        """Return the loss of a student that predicts the mean for all images.

        It is the reference of the explained variance, and therefore None for
        losses that are not squared errors.

        Args:
            teacher_feat: N x C_t x H x W of at least two images.
        """
        return None

    @property
    def log_name(self) -> str:
        """The name of the class without ``Loss``, such as ``hint``.

        mmengine would minimize what is logged under a name with ``loss``.
        """
        name = re.sub('(?i)loss', '', type(self).__name__)
        return re.sub('(?<=[a-z0-9])(?=[A-Z])', '_', name).lower()

    def terms(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> Dict[str, torch.Tensor]:
        """Return the terms of the loss, by their names in the log.

        Args:
            student_feat: See :meth:`forward`.
            teacher_feat: See :meth:`forward`.
        """
        return {self.log_name: self(student_feat, teacher_feat)}

    def constant_terms(
        self, teacher_feat: torch.Tensor
    ) -> Dict[str, torch.Tensor]:
        """Return :meth:`constant_loss` of the terms that are squared errors.

        Args:
            teacher_feat: See :meth:`constant_loss`.
        """
        value = self.constant_loss(teacher_feat)
        return {} if value is None else {self.log_name: value}
