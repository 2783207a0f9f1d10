"""Scores of linear probes without a teacher."""

from __future__ import annotations

from typing import Dict, List

import torch
from mmengine.utils import to_2tuple

from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.analysis.probe.scores import Score
from repfusion_mm.models.connectors.conv_connector import resize_to

#: Largest side of images whose pixels are the features.
MAX_SIDE = 32
NO_IMAGE, PIXELS = 'no image', 'raw pixels'


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
    maps: Dict[str, torch.Tensor] = {
        PIXELS: pixels,
        NO_IMAGE: torch.zeros_like(pixels[:, :1]),
    }
    scores = []
    for name, values in maps.items():
        feats = prober.task.feature(values).numpy()
        for n, splits in prober.splits.items():
            for i, split in enumerate(splits):
                train, test = ((feats[k], prober.targets[k]) for k in split)
                score = round(prober.task.score(train, test), 5)
                scores.append(Score('clean', name, 0, n, i, score))
    return scores
