"""Each task predicts targets that depend linearly on the features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.probe import tasks


def random_maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def halves(feats, targets):
    return (feats[:50], targets[:50]), (feats[50:], targets[50:])


def test_samples_without_a_label_have_no_task():
    assert tasks.find_task(()) is None
    assert tasks.find_task(('gt_sem_seg',)).metric == 'mean IoU'


def test_classes_are_predicted():
    feats = random_maps(100, 4)
    data = halves(feats, (feats[:, 0] > 0).astype(int))
    assert tasks.score_classes(*data) > 0.9
    with pytest.raises(ValueError, match=r'one class label .* got \[1, 2\]'):
        tasks.read_class(SimpleNamespace(gt_label=torch.tensor([1, 2])))


@pytest.mark.parametrize('max_cells', [20_000, 100])
def test_masks_are_predicted_without_ignored_cells(monkeypatch, max_cells):
    monkeypatch.setattr(tasks, 'MAX_CELLS', max_cells)
    feats = random_maps(100, 4, 4, 3)
    cells = (feats[..., 0] > 0).astype(int)
    cells[:, 0] = 255
    masks = cells.repeat(2, axis=1).repeat(2, axis=2)
    assert tasks.score_masks(*halves(feats, masks)) > 0.8
    inputs, labels = tasks.select_cells(feats, masks)
    assert len(inputs) == len(labels) == min(max_cells, 1200)
    assert ((inputs[:, 0] > 0) == labels).all()


def test_keypoints_are_predicted():
    feats = random_maps(100, 6)
    points = 0.5 + 0.01 * feats.reshape(100, 3, 2)
    assert -0.01 < tasks.score_keypoints(*halves(feats, points)) < 0
