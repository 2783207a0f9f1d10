"""Decoders g: how well can the task be solved from teacher features?"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule

from ..registry import MODELS
from .labels import read_labels
from .losses import pool


@MODELS.register_module()
class ClsDecoder(BaseModule):
    """Classify images from a globally pooled teacher map.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the teacher's map; the distiller fills it in.
        hidden_channels: Widths of the hidden layers.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = (in_channels, *hidden_channels)
        layers: list = []
        for width, next_width in zip(widths, widths[1:]):
            layers += [nn.Linear(width, next_width), nn.ReLU(inplace=True)]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x num_classes logits for an N x C x H x W map."""
        return self.mlp(pool(feat))

    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of each image, and which have a label.

        Args:
            feat: N x C x H x W teacher map.
            data_samples: N samples; those without ``gt_label`` count as
                unlabelled, and None means that all are.

        Returns:
            N losses, zero without a label, and N booleans.

        Raises:
            ValueError: A label outside [0, num_classes - 1], or several
                labels or a soft label for one image.
        """
        labels = read_labels(data_samples, len(feat), feat.device)
        labelled = labels >= 0
        if (labels >= self.num_classes).any():
            self.check_labels(labels[labelled].tolist())
        losses = F.cross_entropy(
            self(feat), labels, reduction='none', ignore_index=-1
        )
        return losses, labelled

    def check_labels(self, labels: Sequence[int]) -> None:
        """Raise a ValueError for labels outside [0, num_classes - 1]."""
        wrong = sorted({int(i) for i in labels} - set(range(self.num_classes)))
        if wrong:
            raise ValueError(
                f'expected labels in [0, {self.num_classes - 1}] for '
                f'decoder.num_classes={self.num_classes}, got {wrong[:5]}; '
                'set model.decoder.num_classes to the number of classes'
            )
