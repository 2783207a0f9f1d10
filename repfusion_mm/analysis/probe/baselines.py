"""Scores of linear probes without a teacher."""

from __future__ import annotations

from typing import List

import torch
from mmengine.utils import to_2tuple

from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.analysis.probe.scores import Score
from repfusion_mm.models.connectors.conv_connector import resize_to

#: Largest side of images whose pixels are the features.
MAX_SIDE = 32


def score_baselines(prober: Prober) -> List[Score]:
    """Fit the probes of a prober to pixels, and to nothing; return scores.

    Without an image, the linear model is a constant: the most frequent class,
    or the mean position of a keypoint.
    """
    is_dense = prober.task.field == 'gt_sem_seg'
    grid = next(iter(prober.teacher.feature_shapes.values()))[1:]
    parts = []
    for images in prober.batches:
        size = [min(side, MAX_SIDE) for side in images.shape[-2:]]
        pixels = resize_to(images, to_2tuple(grid if is_dense else size))
        if not is_dense:  # as channels, which are not pooled
            pixels = pixels.flatten(1)[:, :, None, None]
        parts.append(pixels.cpu())
    pixels = torch.cat(parts)
    maps = {'raw pixels': pixels, 'no image': torch.zeros_like(pixels[:, :1])}
    return [
        score
        for name, values in maps.items()
        for score in prober.score(
            prober.task.feature(values).numpy(), 'clean', name, timestep=0
        )
    ]
