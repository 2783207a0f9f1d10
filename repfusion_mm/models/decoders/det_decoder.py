"""Detect objects from features of the teacher."""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.decoders.seg_decoder import make_convs
from repfusion_mm.models.utils.labels import (
    IGNORED_BOX,
    UNLABELED,
    count_boxes,
    fill_in,
    image_name,
    read_boxes,
)
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_integer, check_widths

#: Standard deviation of a center's Gaussian, as a fraction of the side of its
#: box: alpha / 6 of TTFNet (arXiv 1909.00700) with alpha = 0.54.
SIGMA = 0.09
#: The probability of a center before training, as for focal losses
#: (arXiv 1708.02002, Sec. 3.3).
PRIOR = 0.1


@MODELS.register_module()
class DetDecoder(TaskDecoder):
    """Find the centers of the boxes in mmdet's data samples.

    Convolutions predict a heatmap of each class on the teacher's grid, which
    is trained by the focal loss of CenterNet (arXiv 1904.07850, Eq. 1). The
    target is 1 in the cell of a box's center, around which it decreases as a
    Gaussian whose width is that of the box.

    The labels are ``gt_instances`` in pixels of the padded image
    (``batch_input_shape`` or ``img_shape`` of the sample). Boxes are clipped
    to the image. Those that have no area there do not count, and an image
    without a box that counts is unlabeled, also if it only has
    ``ignored_instances`` (``iscrowd``). Cells that an ignored box covers do
    not change the loss, unless a center is there.

    Args:
        num_classes: Number of classes of boxes.
        in_channels: Channels of the features; the distiller sets it.
        hidden_channels: Widths of 3 x 3 convolutions before the heatmaps.

    Raises:
        ValueError: An argument is outside its range.
    """

    info_key = 'instances'
    label_fields = ('gt_instances',)

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_integer('model.decoder.num_classes', num_classes)
        check_widths('model.decoder.hidden_channels', hidden_channels)
        self.num_classes = num_classes
        self.convs = make_convs((in_channels, *hidden_channels), num_classes)

    def init_weights(self) -> None:
        """Let each center start as improbable, as most of the cells are."""
        super().init_weights()
        last: Any = self.convs[-1]
        torch.nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x num_classes x H x W logits for N x C x H x W.

        They are float32 also under autocast.
        """
        return self.convs(feat).float()

    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the focal loss of each image, divided by its number of
        boxes, and the mask of images with a box that counts."""
        samples = self.samples(data_samples, len(feat))
        boxes, classes, counts = (
            label.to(feat.device, non_blocking=True)
            for label in self.read(samples)
        )
        logits = self(feat)
        target = draw_centers(boxes, classes, counts, logits)
        covered = draw_boxes(boxes, classes == IGNORED_BOX, logits)
        log_p, log_not = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = -(log_not.exp() ** 2) * log_p
        negative = -((1 - target) ** 4) * log_p.exp() ** 2 * log_not
        negative = negative.masked_fill(covered[:, None], 0)
        losses = torch.where(target == 1, positive, negative).sum((1, 2, 3))
        num_boxes = counts.sum(1)
        labeled = num_boxes > 0
        losses = losses / num_boxes.clamp(min=1)
        return losses.masked_fill(~labeled, 0), labeled

    def find_label(self, info: dict) -> Any:
        """Return the boxes in an info, None if all are ignored."""
        return [
            instance
            for instance in info.get('instances') or []
            if not instance.get('ignore_flag')
        ] or None

    def check_labels(self, labels: list, paths: Sequence = ()) -> None:
        """Raise a ValueError for classes outside [0, num_classes - 1]."""
        for i, instances in enumerate(labels):
            found = [instance.get('bbox_label', 0) for instance in instances]
            place = f' in {paths[i]}' if i < len(paths) else ''
            self._check_classes(torch.tensor(found), place)

    def read(self, samples: Sequence) -> Tuple[torch.Tensor, ...]:
        """Return the boxes of N samples, at most B in one of them.

        Returns:
            N x B x 4 corners relative to the image, N x B classes, and N x B
            booleans: which count.
        """
        labels = [read_boxes(sample) for sample in samples]
        padded = pad_sequence(
            fill_in(labels, torch.zeros(0, 5)),
            batch_first=True,
            padding_value=UNLABELED,
        )
        if padded.numel() and self.must_check(padded):
            self._check(padded, samples)
        return count_boxes(padded)

    def _check(self, boxes: torch.Tensor, samples: Sequence) -> None:
        for sample, own in zip(samples, boxes):
            wrong = ~own.isfinite().all(-1)
            if wrong.any():
                raise ValueError(
                    'expected boxes with finite corners, got '
                    f'{own[wrong][0, :4].tolist()}{image_name(sample)} '
                    '(relative to the image); correct or remove them'
                )
            classes = own[:, 4]
            # Boxes that do not count have negative ones.
            self._check_classes(classes[classes >= 0], image_name(sample))

    def _check_classes(self, classes: torch.Tensor, place: str) -> None:
        outside = classes[(classes < 0) | (classes >= self.num_classes)]
        if len(outside):
            raise ValueError(
                f'expected classes of boxes in [0, {self.num_classes - 1}] '
                f'for decoder.num_classes={self.num_classes}, got '
                f'{int(outside[0])}{place}; set model.decoder.num_classes, or '
                'correct the classes'
            )


def draw_centers(
    boxes: torch.Tensor,
    classes: torch.Tensor,
    counts: torch.Tensor,
    heatmaps: torch.Tensor,
) -> torch.Tensor:
    """Return the targets of heatmaps: 1 at centers, a Gaussian around them.

    Args:
        boxes: N x B x 4 corners relative to the sides of the image.
        classes: N x B classes.
        counts: N x B booleans: the boxes to draw.
        heatmaps: N x C x H x W, of which shape and device are used.
    """
    left, top, right, bottom = boxes.unbind(-1)
    across = _draw_gaussians(left, right, heatmaps.shape[-1])
    down = _draw_gaussians(top, bottom, heatmaps.shape[-2])
    drawn = down[..., :, None] * across[..., None, :] * counts[..., None, None]
    index = classes.clamp(min=0)[..., None, None].expand_as(drawn)
    return torch.zeros_like(heatmaps).scatter_reduce(1, index, drawn, 'amax')


def _draw_gaussians(
    low: torch.Tensor, high: torch.Tensor, num_cells: int
) -> torch.Tensor:
    """Return ... x num_cells values, 1 in the cell in the middle of two
    relative coordinates."""
    cells = torch.arange(num_cells, device=low.device)
    center = ((low + high) / 2 * num_cells).floor().clamp(0, num_cells - 1)
    sigma = (SIGMA * (high - low) * num_cells).clamp(min=1e-3)
    distance = (cells - center[..., None]) / sigma[..., None]
    return (-(distance**2) / 2).exp()


def draw_boxes(
    boxes: torch.Tensor, drawn: torch.Tensor, heatmaps: torch.Tensor
) -> torch.Tensor:
    """Return N x H x W booleans: cells whose center is in a box.

    Args:
        boxes: N x B x 4 corners relative to the sides of the image.
        drawn: N x B booleans: the boxes to draw.
        heatmaps: N x C x H x W, of which shape and device are used.
    """
    height, width = heatmaps.shape[-2:]
    x, y = (
        (torch.arange(n, device=boxes.device) + 0.5) / n
        for n in (width, height)
    )
    left, top, right, bottom = boxes[..., None].unbind(2)
    across = (x >= left) & (x < right)
    down = (y >= top) & (y < bottom) & drawn[..., None]
    return (down[..., :, None] & across[..., None, :]).any(1)
