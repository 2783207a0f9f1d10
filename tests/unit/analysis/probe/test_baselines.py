from types import SimpleNamespace

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.probe.baselines import measure_baselines
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask
from repfusion_mm.analysis.probe.tasks.masks import MaskTask

#: The class is the color of the image.
COLORS = torch.tensor([0, 1, 0, 0, 1, 2, 0, 1, 2, 0, 1, 2])


def baselines(task):
    images = torch.rand(12, 3, 40, 24, generator=torch.manual_seed(0)) / 2
    images[range(12), COLORS] += 0.5
    prober = SimpleNamespace(
        task=task, grids=dict(high=(1, 1), low=(4, 6)), batches=images.split(5)
    )
    measured = measure_baselines(prober, 'low')
    assert [*measured] == ['raw pixels', 'no image']
    for m in measured.values():
        assert np.isfinite([m.r2, m.observed, *m.score, *m.null]).all()
    return measured


def test_classes():
    measured = baselines(ClassTask([*COLORS.numpy()]))
    assert measured['raw pixels'].score[0] > 0.9
    assert measured['raw pixels'].r2 > 0.3
    # 0 is the most frequent class.
    assert measured['no image'].score[0] == pytest.approx(5 / 12)
    assert measured['no image'].r2 == pytest.approx(0, abs=1e-3)


def test_masks():
    """The class of a cell is the color of the image, 3 in the first row."""
    masks = [np.full((40, 24), color, np.int16) for color in COLORS]
    for mask in masks:
        mask[:10] = 3
    measured = baselines(MaskTask(masks))
    assert measured['raw pixels'].r2 > 0.3
    assert measured['raw pixels'].score[0] > measured['no image'].score[0]
    assert measured['no image'].r2 == pytest.approx(0, abs=1e-3)


def test_keypoints():
    rng = np.random.default_rng(0)
    points = np.ones((12, 2, 3), np.float32)
    points[..., :2] = rng.random((12, 2, 2))
    measured = baselines(KeypointTask([*points]))
    coords = points[..., :2]
    error = (coords.sum(0) - coords) / 11 - coords
    expected = -np.linalg.norm(error, axis=-1).mean()
    assert measured['no image'].score[0] == pytest.approx(expected, abs=1e-4)
    assert measured['raw pixels'].score[0] < 0
