"""Measure what needs no trained teacher: pixels, and random weights."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

import numpy as np
import torch
import torch.nn as nn
from mmengine.utils import to_2tuple

from repfusion_mm.analysis.probe.measurement import Key, Measurement
from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.models.connectors.conv_connector import resize_to

#: Largest side of images whose pixels are the features.
MAX_SIDE = 32
#: Number of untrained copies of a network, each with other random weights.
NUM_UNTRAINED = 2
#: Number of timesteps at which a teacher is compared with these copies.
NUM_TIMESTEPS = 3


class Untrained(NamedTuple):
    """A trained network and untrained copies of it, on the same images.

    Attributes:
        trained: Measurement of the trained network.
        copies: Measurements of the copies, each with other random weights.
    """

    trained: Measurement
    copies: List[Measurement]


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


def compare_untrained(
    prober: Prober, best: Key, timesteps: Sequence[int]
) -> Untrained:
    """Measure a teacher, and the same network with random weights.

    Features of untrained networks say more about labels than pixels do. The
    probe of a teacher that has learned nothing is therefore compared with
    theirs, around the best timestep. The teacher of the prober is untrained
    afterwards.

    Args:
        prober: The prober.
        best: The input mode, layer and timestep that the probe selected.
        timesteps: All probed timesteps.
    """
    mode, layer, t = best
    near = sorted(sorted(timesteps, key=lambda i: abs(i - t))[:NUM_TIMESTEPS])

    def measure() -> Measurement:
        feats = [prober.features(i, mode)[layer] for i in near]
        measured = prober.measure(mode, layer, near, np.stack(feats, 1))
        return measured[mode, layer, t]

    trained, copies = measure(), []
    for seed in range(NUM_UNTRAINED):
        randomize(prober.teacher.network, seed)
        copies.append(measure())
    return Untrained(trained, copies)


def randomize(network: nn.Module, seed: int) -> None:
    """Replace the weights of all layers by random ones.

    Parameters that belong to no layer of PyTorch, such as the position
    embedding of a transformer, are kept.
    """
    torch.manual_seed(seed)
    for module in network.modules():
        reset = getattr(module, 'reset_parameters', None)
        if reset is not None:
            reset()
