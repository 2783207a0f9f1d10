"""Measure what needs no teacher: pixels, and a constant."""

from __future__ import annotations

from typing import Dict

import numpy as np
import torch
from mmengine.utils import to_2tuple

from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.models.connectors.conv_connector import resize_to

#: Largest side of images whose pixels are the features.
MAX_SIDE = 32


def measure_baselines(prober: Prober, layer: str) -> Dict[str, Measurement]:
    """Fit the linear model of a prober to pixels, and to nothing.

    Without an image it is a constant: chance for balanced classes, or the
    mean position of a keypoint.

    Args:
        prober: The prober.
        layer: The layer whose grid the cells of masks have.
    """
    is_dense = prober.task.field == 'gt_sem_seg'
    grid = prober.grids[layer]
    rows: Dict[str, list] = {'raw pixels': [], 'no image': []}
    # One size, also where that of the images differs between batches.
    size = [min(side, MAX_SIDE) for side in prober.batches[0].shape[-2:]]
    begin = 0
    for images in prober.batches:
        pixels = resize_to(images, to_2tuple(grid if is_dense else size))
        if not is_dense:  # as channels, which are not pooled
            pixels = pixels.flatten(1)[:, :, None, None]
        for name, maps in zip(rows, (pixels, torch.zeros_like(pixels[:, :1]))):
            rows[name].append(prober.task.rows(maps, begin).cpu().numpy())
        begin += len(images)
    return {
        name: prober.task.measure(
            prober.task.finish(np.concatenate(parts))[:, None], grid
        )[0]
        for name, parts in rows.items()
    }
