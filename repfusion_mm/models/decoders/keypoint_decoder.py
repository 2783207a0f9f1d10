"""Locate keypoints from features of the teacher."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import torch

from repfusion_mm.models.decoders.base import TaskDecoder, check_count
from repfusion_mm.models.decoders.seg_decoder import make_convs
from repfusion_mm.models.utils.labels import fill_in
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class KeypointDecoder(TaskDecoder):
    """Locate the keypoints of one instance in mmpose's data samples.

    Convolutions predict one heatmap per keypoint on the teacher's grid. The
    keypoint is the expected position under the heatmap's softmax (integral
    regression, arXiv 1711.08229). Coordinates are relative to the sides of the
    image, in [0, 1].

    The labels are ``gt_instance_labels.keypoint_labels`` of a regression
    codec (``RegressionLabel``), or the maxima of ``gt_fields.heatmaps``.
    ``keypoint_weights`` are the weights of the keypoints.

    Args:
        num_keypoints: Number of keypoints.
        in_channels: Channels of the features; the distiller sets it.
        hidden_channels: Widths of 3 x 3 convolutions before the heatmaps.
    """

    info_key = 'keypoints'

    def __init__(
        self,
        num_keypoints: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_count('num_keypoints', num_keypoints)
        self.num_keypoints = num_keypoints
        self.convs = make_convs((in_channels, *hidden_channels), num_keypoints)

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x K x 2 coordinates (x, y) for N x C x H x W."""
        heatmaps = self.convs(feat)
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
        labels: List[Optional[torch.Tensor]] = [None] * len(feat)
        for i, sample in enumerate(self.samples(data_samples, len(feat))):
            if 'gt_instance_labels' in sample:
                points = torch.as_tensor(self._check(read_points(sample)))
                weights = sample.gt_instance_labels.keypoint_weights
                weights = torch.as_tensor(weights).reshape(-1, 1)
                labels[i] = torch.cat([points, weights], dim=1)
        unlabeled = torch.zeros(self.num_keypoints, 3)
        target = torch.stack(fill_in(labels, unlabeled))
        target = target.to(feat, non_blocking=True)
        weight = target[..., 2]
        errors = (self(feat) - target[..., :2]).abs().sum(-1)
        total = weight.sum(1)
        return (errors * weight).sum(1) / total.clamp(min=1e-6), total > 0

    def check_labels(self, labels: list) -> None:
        """Raise a ValueError if the number of keypoints differs."""
        for keypoints in labels:
            self._check(keypoints[0])

    def _check(self, points):
        if len(points) != self.num_keypoints:
            raise ValueError(
                f'expected {self.num_keypoints} keypoints, for '
                f'decoder.num_keypoints, got {len(points)}; set '
                'model.decoder.num_keypoints'
            )
        return points


def read_points(sample) -> torch.Tensor:
    """Return the K x 2 coordinates of a data sample's only instance."""
    labels = sample.gt_instance_labels
    if len(labels) > 1:
        raise ValueError(
            f'expected one instance in an image, got {len(labels)}; crop '
            'the instances with TopdownAffine'
        )
    if 'keypoint_labels' in labels:
        return labels.keypoint_labels[0]
    if 'gt_fields' not in sample or 'heatmaps' not in sample.gt_fields:
        raise ValueError(
            'expected keypoint_labels or heatmaps in the data samples, got '
            f'{labels.keys()}; set the encoder of GenerateTarget to '
            'RegressionLabel or MSRAHeatmap'
        )
    heatmaps = sample.gt_fields.heatmaps
    height, width = heatmaps.shape[-2:]
    index = heatmaps.flatten(1).argmax(1)
    y = torch.div(index, width, rounding_mode='floor') / height
    return torch.stack([index % width / width, y], dim=1)
