"""Each task predicts targets that depend linearly on the features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.probe.tasks import (
    ClassTask,
    KeypointTask,
    MaskTask,
    find_task,
)

SPLIT = (np.arange(50), np.arange(50, 100))


def random_maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_samples_without_a_label_have_no_task():
    assert find_task(()) is None
    assert isinstance(find_task(('gt_sem_seg',)), MaskTask)


def test_classes_are_predicted():
    task, feats = ClassTask(), random_maps(100, 4)
    assert task.score(feats, (feats[:, 0] > 0).astype(int), SPLIT) > 0.9
    with pytest.raises(ValueError, match=r'one class label .* got \[1, 2\]'):
        task.target(SimpleNamespace(gt_label=torch.tensor([1, 2])))


@pytest.mark.parametrize('max_cells', [20_000, 100])
def test_masks_are_predicted_without_ignored_cells(monkeypatch, max_cells):
    monkeypatch.setattr(MaskTask, 'max_cells', max_cells)
    feats = random_maps(100, 4, 4, 3)
    cells = (feats[..., 0] > 0).astype(int)
    cells[:, 0] = 255
    masks = cells.repeat(2, axis=1).repeat(2, axis=2)
    assert MaskTask().score(feats, masks, SPLIT) > 0.8
    inputs, truth = MaskTask()._select(feats, cells)
    assert len(inputs) == len(truth) == min(max_cells, 1200)
    assert set(truth) == {0, 1}


def test_keypoints_are_predicted():
    feats = random_maps(100, 6)
    points = 0.5 + 0.01 * feats.reshape(100, 3, 2)
    assert -0.01 < KeypointTask().score(feats, points, SPLIT) < 0
