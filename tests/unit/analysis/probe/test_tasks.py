"""Each task predicts targets that depend linearly on the features."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from mmseg.evaluation import IoUMetric
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from repfusion_mm.analysis.probe import tasks
from repfusion_mm.models.utils.labels import UNLABELED
from tests.helpers.dense_samples import seg_samples


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
    with pytest.raises(ValueError, match=r'one class .* got \[1, 2\].*probe'):
        tasks.read_label(DataSample().set_gt_label([1, 2]), 255)
    soft = DataSample().set_gt_score(torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=r'gt_score.*one class each'):
        tasks.find_task(soft).target(soft, 255)
    assert tasks.read_label(DataSample().set_gt_label(2), 255) == 2
    assert tasks.read_label(DataSample().set_gt_label(-1), 255) is None


@pytest.mark.parametrize('max_cells', [20_000, 100])
def test_masks_are_predicted_without_ignored_cells(monkeypatch, max_cells):
    monkeypatch.setattr(tasks, 'MAX_CELLS', max_cells)
    feats = random_maps(100, 4, 4, 3)
    cells = (feats[..., 0] > 0).astype(int)
    cells[:, 0] = UNLABELED
    masks = cells.repeat(2, axis=1).repeat(2, axis=2)
    assert tasks.score_masks(*halves(feats, masks)) > 0.8
    inputs, labels = tasks.select_cells(feats, masks)
    assert len(inputs) == len(labels) == min(max_cells, 1200)
    assert ((inputs[:, 0] > 0) == labels).all()


@pytest.mark.parametrize('ignore_index', [255, 0])
def test_masks_are_read_with_the_ignored_class_of_the_data(ignore_index):
    label_map = torch.tensor([[0, 1], [2, 255]])
    (sample,) = seg_samples([label_map])
    mask = tasks.read_mask(sample, ignore_index)
    expected = label_map.masked_fill(label_map == ignore_index, UNLABELED)
    assert torch.equal(mask, expected.to(torch.int16))
    (sample,) = seg_samples([torch.full((2, 2), ignore_index)])
    assert tasks.read_mask(sample, ignore_index) is None


@pytest.mark.parametrize('height', range(1, 40))
def test_cells_have_the_class_of_the_pixel_at_their_center(height):
    """The reference is exact rational arithmetic."""
    width = 3 * height % 41 + 1
    mask = np.arange(height * width).reshape(height, width)
    for grid in ((1, 1), (2, 3), (4, 4), (7, 16), (13, 5)):
        cells = tasks.sample_cells(mask, grid)
        assert cells.shape == grid
        for i, j in np.ndindex(grid):
            y = Fraction(2 * i + 1, 2 * grid[0]) * height
            x = Fraction(2 * j + 1, 2 * grid[1]) * width
            assert cells[i, j] == int(y) * width + int(x)


@pytest.mark.parametrize('size', [64, 50])
def test_features_that_are_the_class_at_the_center_have_an_iou_of_one(size):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    centers = rng.uniform(0.25 * size, 0.75 * size, (40, 2))
    radii = rng.uniform(0.12 * size, 0.25 * size, 40)
    masks = np.stack([
        (y - cy) ** 2 + (x - cx) ** 2 < r**2
        for (cy, cx), r in zip(centers, radii)
    ]).astype(int)  # fmt: skip
    center = ((np.arange(8) + 0.5) * size / 8).astype(int)
    classes = masks[:, center[:, None], center]
    feats = np.stack([classes, 1 - classes], -1).astype(np.float32)
    data = (feats[:20], masks[:20]), (feats[20:], masks[20:])
    assert tasks.score_masks(*data) > 0.999


def test_the_mean_iou_is_that_of_mmseg():
    """Over the classes in the labels or the predictions."""
    rng = np.random.default_rng(0)
    feats = rng.normal(size=(30, 4, 4, 5)).astype(np.float32)
    masks = rng.integers(0, 4, (30, 4, 4))
    masks[:, 0, 0] = 5
    masks[15:][masks[15:] == 3] = UNLABELED
    train, test = (feats[:15], masks[:15]), (feats[15:], masks[15:])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    model.fit(train[0].reshape(-1, 5), train[1].ravel())
    predicted = torch.from_numpy(model.predict(test[0].reshape(-1, 5)))
    label = torch.from_numpy(test[1].ravel())
    areas = IoUMetric.intersect_and_union(predicted, label, 6, UNLABELED)
    iou = (areas[0] / areas[1]).numpy()
    assert tasks.score_masks(train, test) == pytest.approx(np.nanmean(iou))


def keypoints(feats, num=3):
    points = 0.5 + 0.01 * feats[:, : 2 * num].reshape(len(feats), num, 2)
    weights = np.ones((len(feats), num, 1), np.float32)
    return np.concatenate([points, weights], -1)


def test_keypoints_are_predicted():
    feats = random_maps(100, 6)
    assert -0.01 < tasks.score_keypoints(*halves(feats, keypoints(feats))) < 0


@pytest.mark.parametrize('seed', range(5))
def test_keypoints_are_fitted_and_scored_where_they_count(seed):
    rng = np.random.default_rng(seed)
    feats = rng.normal(size=(60, 8)).astype(np.float32)
    points = rng.uniform(size=(60, 5, 3)).astype(np.float32)
    points[..., 2] = rng.random((60, 5)) < 0.5
    points[:50, 4, 2] = 0  # never to fit to
    data = halves(feats, points)
    errors = []
    for k in range(4):
        rows, scored = (d[1][:, k, 2] > 0 for d in data)
        model = make_pipeline(StandardScaler(), Ridge(alpha=8 / 10))
        model.fit(data[0][0][rows], data[0][1][rows, k, :2])
        predicted = model.predict(data[1][0][scored])
        difference = predicted - data[1][1][scored, k, :2]
        errors += [*np.sqrt((difference**2).sum(1))]
    expected = pytest.approx(-np.mean(errors), abs=1e-6)
    assert tasks.score_keypoints(*data) == expected
    points[points[..., 2] == 0] = [np.nan, 7, 0]
    assert tasks.score_keypoints(*halves(feats, points)) == expected
