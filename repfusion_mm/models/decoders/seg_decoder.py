"""Segment images from features of the teacher."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.utils.labels import (
    count_classes,
    fill_in,
    image_name,
    read_map,
)
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_integer, check_widths


@MODELS.register_module()
class SegDecoder(TaskDecoder):
    """Classify the pixels of mmseg's data samples.

    Optional 3 x 3 convolutions and a 1 x 1 convolution predict logits on the
    teacher's grid, which are resized to the label map.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features; the distiller sets it.
        hidden_channels: Widths of the 3 x 3 convolutions.
        ignore_index: Class of pixels to ignore, that of the dataset.

    Raises:
        ValueError: An argument is outside its range, such as a single class.
    """

    info_key = 'seg_map_path'
    label_fields = ('gt_sem_seg',)

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (),
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        # The cross-entropy of a single class is zero.
        check_integer('model.decoder.num_classes', num_classes, 2)
        check_widths('model.decoder.hidden_channels', hidden_channels)
        check_integer('model.decoder.ignore_index', ignore_index, -(2**63))
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.convs = make_convs((in_channels, *hidden_channels), num_classes)

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x num_classes x H x W logits for N x C x H x W.

        They are float32 also under autocast, which on a CPU computes losses
        in bfloat16.
        """
        return self.convs(feat).float()

    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mean cross-entropy of each image's pixels, and the mask
        of images with a pixel that is not ignored (``gt_sem_seg``)."""
        samples = self.samples(data_samples, len(feat))
        targets, counts = self.read(samples)
        targets = targets.to(feat.device, non_blocking=True)
        counts = counts.to(feat.device, non_blocking=True)
        logits = F.interpolate(
            self(feat), size=targets.shape[-2:], mode='bilinear'
        )
        losses = F.cross_entropy(
            logits, targets, reduction='none', ignore_index=self.ignore_index
        )
        num_pixels = counts.sum((1, 2))
        return losses.sum((1, 2)) / num_pixels.clamp(min=1), num_pixels > 0

    def find_label(self, info: dict) -> Any:
        """Return the path of the label map, or the boxes of mmdet, of which
        ``BoxesToMask`` makes one."""
        return info.get('seg_map_path') or info.get('instances') or None

    def read(self, samples: Sequence) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return N x H x W classes, and N x H x W booleans: which count."""
        maps = [read_map(sample) for sample in samples]
        shapes = sorted({tuple(m.shape) for m in maps if m is not None})
        if len(shapes) > 1:
            raise ValueError(
                'expected label maps of one size in a batch, got '
                f'{shapes[:2]}; resize them with the images in the pipeline'
            )
        unlabeled = torch.full((shapes or [(1, 1, 1)])[0], self.ignore_index)
        # In uint8, ignore_index=-1 would be 255.
        targets = torch.cat(fill_in(maps, unlabeled)).long()
        if shapes and self.must_check(targets):
            self._check(targets, samples)
        return targets, count_classes(targets, self.ignore_index)

    def _check(self, targets: torch.Tensor, samples: Sequence) -> None:
        wrong = (targets < 0) | (targets >= self.num_classes)
        wrong &= count_classes(targets, self.ignore_index)
        if wrong.any():
            first = int(wrong.flatten(1).any(1).nonzero()[0])
            raise ValueError(
                f'expected classes in [0, {self.num_classes - 1}] for '
                f'decoder.num_classes={self.num_classes}, or '
                f'{self.ignore_index} to ignore, got '
                f'{targets[wrong].unique()[:5].tolist()}'
                f'{image_name(samples[first])}; set '
                'model.decoder.num_classes or ignore_index, or '
                'reduce_zero_label=True of the dataset'
            )


def make_convs(widths: Sequence[int], out_channels: int) -> nn.Sequential:
    """Build 3 x 3 convolutions of ``widths``, then a 1 x 1 convolution."""
    layers: list = []
    for width, next_width in zip(widths, widths[1:]):
        layers += [
            nn.Conv2d(width, next_width, 3, padding=1),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], out_channels, 1))
