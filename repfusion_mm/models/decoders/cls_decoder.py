"""Classify images from teacher features."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from repfusion_mm.models.decoders.base import TaskDecoder, check_count
from repfusion_mm.models.losses.utils import pool
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class ClsDecoder(TaskDecoder):
    """Classify images from globally pooled features of the teacher.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features; the distiller sets it.
        hidden_channels: Widths of the hidden layers.
        multi_label: If True, an image may have any number of classes, and the
            loss is the binary cross-entropy, averaged over classes. If False,
            it has one class or mixed classes (mixup, CutMix), and the loss is
            the cross-entropy.
    """

    info_key = 'gt_label'

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (256, 256),
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        check_count('num_classes', num_classes)
        self.num_classes = num_classes
        self.multi_label = multi_label
        widths = (in_channels, *hidden_channels)
        layers: list = []
        for width, next_width in zip(widths, widths[1:]):
            layers += [nn.Linear(width, next_width), nn.ReLU(inplace=True)]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x num_classes logits for N x C x H x W features."""
        return self.mlp(pool(feat))

    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of each image and the mask of labeled ones.

        ``gt_score`` (C probabilities) has precedence over ``gt_label`` (class
        indices).
        """
        samples = self.samples(data_samples, len(feat))
        targets = self._targets(samples).to(feat, non_blocking=True)
        labeled = torch.tensor(
            ['gt_score' in s or 'gt_label' in s for s in samples]
        ).to(feat.device, non_blocking=True)
        logits = self(feat)
        if self.multi_label:
            losses = F.binary_cross_entropy_with_logits(
                logits, targets, reduction='none'
            ).mean(1)
        else:
            losses = F.cross_entropy(logits, targets, reduction='none')
        return losses * labeled, labeled

    def check_labels(self, labels: list) -> None:
        """Raise a ValueError for labels outside [0, num_classes - 1]."""
        if labels:
            self._check_counts([np.size(label) for label in labels])
            numbers = np.concatenate([np.ravel(label) for label in labels])
            self._check_range(torch.from_numpy(numbers))

    def _targets(self, samples: Sequence) -> torch.Tensor:
        """Return N x C probabilities on the labels' device, or zeros."""
        scores, labels = {}, {}
        for row, sample in enumerate(samples):
            if 'gt_score' in sample:
                scores[row] = sample.gt_score
            elif 'gt_label' in sample:
                labels[row] = torch.as_tensor(sample.gt_label).flatten()
        found = [*scores.values(), *labels.values()]
        device = found[0].device if found else torch.device('cpu')
        targets = torch.zeros(len(samples), self.num_classes, device=device)
        for row, score in scores.items():
            if len(score) != self.num_classes:
                raise ValueError(
                    'expected gt_score of decoder.num_classes='
                    f'{self.num_classes} values, got {len(score)}; set '
                    'model.decoder.num_classes to the number of classes'
                )
            targets[row] = score
        if labels:
            counts = [len(label) for label in labels.values()]
            self._check_counts(counts)
            rows = torch.tensor(np.repeat([*labels], counts))
            numbers = self._check_range(torch.cat([*labels.values()]))
            rows = rows.to(device, non_blocking=True)
            # Not `= 1`, which copies a number to the device and waits.
            targets[rows, numbers] = targets.new_ones(())
        return targets

    def _check_counts(self, counts: List[int]) -> None:
        if not self.multi_label and set(counts) != {1}:
            raise ValueError(
                'expected one class label for an image, got '
                f'{max(counts)}; set model.decoder.multi_label=True for '
                'several'
            )

    def _check_range(self, numbers: torch.Tensor) -> torch.Tensor:
        if numbers.device.type != 'cpu':
            return numbers  # would synchronize; check_labels checked them
        wrong = (numbers < 0) | (numbers >= self.num_classes)
        if wrong.any():
            raise ValueError(
                f'expected labels in [0, {self.num_classes - 1}] for '
                f'decoder.num_classes={self.num_classes}, got '
                f'{numbers[wrong].unique()[:5].tolist()}; set '
                'model.decoder.num_classes to the number of classes'
            )
        return numbers
