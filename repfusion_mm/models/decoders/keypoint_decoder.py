"""Locate keypoints from features of the teacher."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.decoders.seg_decoder import make_convs
from repfusion_mm.models.utils.labels import (
    count_points,
    fill_in,
    image_name,
    read_points,
)
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_integer, check_widths


@MODELS.register_module()
class KeypointDecoder(TaskDecoder):
    """Locate the keypoints of one instance in mmpose's data samples.

    Convolutions predict one heatmap per keypoint on the teacher's grid. The
    keypoint is the expected position under the heatmap's softmax (integral
    regression, arXiv 1711.08229). Coordinates are relative to the sides of the
    image, in [0, 1].

    The labels are ``gt_instance_labels.keypoint_labels`` of a regression
    codec (``RegressionLabel``), or the maxima of ``gt_fields.heatmaps``.
    ``keypoint_weights`` are the weights of the keypoints. Keypoints of weight
    0, outside the image, or with coordinates that are NaN do not count.

    Args:
        num_keypoints: Number of keypoints.
        in_channels: Channels of the features; the distiller sets it.
        hidden_channels: Widths of 3 x 3 convolutions before the heatmaps.

    Raises:
        ValueError: An argument is outside its range.
    """

    info_key = 'keypoints'
    label_fields = ('gt_fields', 'gt_instance_labels')

    def __init__(
        self,
        num_keypoints: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_integer('model.decoder.num_keypoints', num_keypoints)
        check_widths('model.decoder.hidden_channels', hidden_channels)
        self.num_keypoints = num_keypoints
        self.convs = make_convs((in_channels, *hidden_channels), num_keypoints)

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x K x 2 coordinates (x, y) for N x C x H x W.

        They are float32 also under autocast.
        """
        heatmaps = self.convs(feat).float()
        probs = heatmaps.flatten(2).softmax(-1).view_as(heatmaps)
        height, width = feat.shape[-2:]
        x = (torch.arange(width, device=feat.device) + 0.5) / width
        y = (torch.arange(height, device=feat.device) + 0.5) / height
        return torch.stack(
            [(probs.sum(2) * x).sum(-1), (probs.sum(3) * y).sum(-1)], dim=-1
        )

    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the mean L1 error of each image's keypoints, and the mask
        of images with a keypoint of weight > 0.

        The error is a fraction of the image side.
        """
        samples = self.samples(data_samples, len(feat))
        coords, weights = (
            label.to(feat.device, torch.float32, non_blocking=True)
            for label in self.read(samples)
        )
        errors = (self(feat) - coords).abs().sum(-1)
        total = weights.sum(1)
        labeled = total > 0
        total = total.masked_fill(~labeled, 1)
        return (errors * weights).sum(1) / total, labeled

    def read(self, samples: Sequence) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return N x K x 2 coordinates and N x K weights, zero for keypoints
        that do not count."""
        labels = [self._read(sample) for sample in samples]
        unlabeled = torch.zeros(self.num_keypoints, 3)
        points = torch.stack(fill_in(labels, unlabeled))
        if any(i is not None for i in labels) and self.must_check(points):
            check_points(points, samples)
        return count_points(points)

    def has_field(self, sample: Any) -> bool:
        """Return whether a data sample has an instance."""
        return read_points(sample) is not None

    def find_label(self, info: dict) -> Any:
        """Return the keypoints in an info, None if none is visible."""
        keypoints, visible = map(info.get, ('keypoints', 'keypoints_visible'))
        if keypoints is None or not len(keypoints):
            return None
        if visible is not None and not (np.asarray(visible) > 0).any():
            return None
        return keypoints

    def check_labels(self, labels: list, paths: Sequence = ()) -> None:
        """Raise a ValueError for several instances.

        A pipeline may change the number of keypoints (``KeypointConverter``).
        """
        for i, instances in enumerate(labels):
            place = f' in {paths[i]}' if i < len(paths) else ''
            if len(instances) != 1:
                raise ValueError(
                    'expected one instance in an image, got '
                    f"{len(instances)}{place}; set data_mode='topdown' of the "
                    'dataset, and TopdownAffine in its pipeline'
                )

    def _read(self, sample: Any) -> Optional[torch.Tensor]:
        points = read_points(sample)
        if points is not None:
            self._check_number(len(points), image_name(sample))
        return points

    def _check_number(self, number: int, place: str) -> None:
        if number != self.num_keypoints:
            # K points x, y are read as 2/3 K points x, y, v.
            cause = (
                ', or add the visibility v to annotations that have x, y only'
                if 3 * number == 2 * self.num_keypoints
                else ''
            )
            raise ValueError(
                f'expected {self.num_keypoints} keypoints, for '
                f'decoder.num_keypoints, got {number}{place}; set '
                f'model.decoder.num_keypoints{cause}'
            )


def check_points(points: torch.Tensor, samples: Sequence) -> None:
    """Raise a ValueError for N x K x 3 keypoints that are NaN or Inf, unless
    their weight is zero."""
    wrong = (points[..., 2] != 0) & ~points.isfinite().all(-1)
    if wrong.any():
        image, index = wrong.nonzero()[0].tolist()
        raise ValueError(
            'expected finite coordinates of keypoints with a weight, got '
            f'{points[image, index].tolist()} for keypoint {index}'
            f'{image_name(samples[image])}; give it the weight 0'
        )
