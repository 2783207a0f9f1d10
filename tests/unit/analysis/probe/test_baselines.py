from types import SimpleNamespace

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.probe.baselines import score_baselines
from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.analysis.probe.tasks import TASKS

CLASSES, MASKS, KEYPOINTS = TASKS
TRAIN, TEST = np.arange(8), np.arange(8, 12)
#: The class is the color of the image.
COLORS = torch.tensor([0, 1, 0, 0, 1, 2, 0, 1, 2, 0, 1, 2])


def baselines(task, targets):
    images = torch.rand(12, 3, 40, 24, generator=torch.manual_seed(0)) / 2
    images[range(12), COLORS] += 0.5
    prober = Prober.__new__(Prober)  # without a config
    vars(prober).update(
        task=task,
        targets=targets,
        teacher=SimpleNamespace(feature_shapes=dict(low=(8, 4, 6))),
        batches=images.split(5),
        splits={8: [(TRAIN, TEST)]},
    )
    return {s.layer: s.score for s in score_baselines(prober)}


def test_classes():
    labels = COLORS.numpy()
    scores = baselines(CLASSES, labels)
    # 0 is the most frequent class of TRAIN.
    assert scores == {'raw pixels': 1, 'no image': np.mean(labels[TEST] == 0)}


def test_masks():
    masks = np.zeros((12, 40, 24), np.int16)
    masks[:, :10] = 1  # a row of the grid
    scores = baselines(MASKS, masks)
    assert scores['no image'] == pytest.approx((0.75 + 0) / 2)
    assert scores['raw pixels'] >= scores['no image']


def test_keypoints():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.random((12, 2, 2)), np.ones((12, 2, 1))], -1)
    points = points.astype(np.float32)
    error = points[TEST, :, :2] - points[TRAIN, :, :2].mean(0)
    expected = -np.linalg.norm(error, axis=-1).mean()
    scores = baselines(KEYPOINTS, points)
    assert scores['no image'] == pytest.approx(expected, abs=1e-4)
    assert scores['raw pixels'] < 0
