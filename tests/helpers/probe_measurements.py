"""Measurements of a probe, given or of made-up features."""

from typing import Dict, List

import numpy as np
import torch

from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask
from repfusion_mm.analysis.probe.tasks.masks import MaskTask

NUM_IMAGES = 20
KINDS = ('classes', 'masks', 'keypoints')


def given(r2, error=0.02, score=None, p_value=0.01, seed=None):
    """Return a measurement of this R² and standard error, of 20 images.

    Args:
        r2: R².
        error: Its standard error.
        score: The score; R² by default.
        p_value: Of the test with 99 permutations of the labels.
        seed: The images are independent of those of other seeds; without a
            seed, all differences to them are equal.
    """
    values = np.linspace(-1, 1, NUM_IMAGES)
    if seed is not None:
        values = np.random.default_rng(seed).permutation(values)
    skill = r2 + error * NUM_IMAGES**0.5 * values / values.std(ddof=1)
    score = r2 if score is None else score
    null = np.full(99, r2 - 1)
    null[: round(p_value * 100) - 1] = r2 + 0.01
    return Measurement(skill, (score, score - 0.1, score + 0.1), r2, null)


def probe(
    kind, strengths, seed=0, missing=0.0, order=slice(None)
) -> List[Measurement]:
    """Measure features of 20 images at a timestep for each strength.

    Args:
        kind: One of ``KINDS``.
        strengths: How much of the labels is in the features of a timestep,
            next to independent noise.
        seed: Seed of labels and noise.
        missing: The fraction of cells and keypoints that do not count.
        order: A permutation of the labels over the images.
    """
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(len(strengths), NUM_IMAGES, 8, 3, 3))
    # Noise that all timesteps share.
    maps += 0.5 * rng.normal(size=(NUM_IMAGES, 8, 1, 1))
    strengths = np.array(strengths)[:, None, None, None]
    if kind == 'classes':
        labels = np.arange(NUM_IMAGES) % 4
        maps[:, :, :4] += (
            strengths[..., None] * np.eye(4)[labels][..., None, None]
        )
        task = ClassTask([*labels[order]])
    elif kind == 'masks':
        y, x = np.mgrid[:3, :3]
        slopes = rng.uniform(-1, 1, (2, NUM_IMAGES, 1, 1))
        masks = slopes[0] * (y - 1) + slopes[1] * (x - 1) > 0.1
        maps[:, :, 0] += strengths * masks
        masks = masks.astype(np.int16)
        masks[rng.random(masks.shape) < missing] = -1
        # The ignored cells of an image are its own, as a void border is.
        if missing:
            masks[::3, 0] = -1
        task = MaskTask([*masks[order]])
    else:
        points = rng.uniform(size=(NUM_IMAGES, 4, 3))
        maps = maps[..., :1, :2]  # the second column is only noise
        coords = points[..., :2].reshape(NUM_IMAGES, 8, 1, 1) - 0.5
        maps[..., :1] += 3 * strengths[..., None] * coords
        points[..., 2] = rng.random((NUM_IMAGES, 4)) >= missing
        points[0, :, 2] = 1
        task = KeypointTask([*points[order]])
    rows = [
        task.finish(task.rows(torch.from_numpy(m), 0).numpy()) for m in maps
    ]
    return task.measure(np.stack(rows, 1), (3, 3))


def as_dict(measurements, layer='mid', mode='clean') -> Dict:
    """Return measurements by input mode, layer and timestep."""
    return {(mode, layer, 100 * t): m for t, m in enumerate(measurements)}
