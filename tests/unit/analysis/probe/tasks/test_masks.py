"""The cells of masks, against explicit refits."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from repfusion_mm.analysis.probe import measurement
from repfusion_mm.analysis.probe.tasks import masks as probe_masks
from repfusion_mm.analysis.probe.tasks.masks import MaskTask, sample_cells
from repfusion_mm.models.utils.labels import UNLABELED
from tests.helpers.dense_samples import seg_samples
from tests.helpers.refits import refit

GRID = (3, 4)


@pytest.fixture(autouse=True)
def _few_permutations(monkeypatch):
    monkeypatch.setattr(measurement, 'NUM_PERMUTATIONS', 3)


def rng(seed=0):
    return np.random.default_rng(seed)


def squares(predicted, targets, counts):
    """Return the squared error of each image, averaged over its rows."""
    return np.array([
        ((p - t)[c] ** 2).sum() / c.sum()
        for p, t, c in zip(predicted, targets, counts)
    ])  # fmt: skip


def masks_of(num_images, num_classes=3, seed=0):
    """Return masks of several sizes with ignored pixels."""
    masks = []
    for i in range(num_images):
        mask = rng(seed + i).integers(0, num_classes, (3 + i, 4 + 2 * i))
        mask[rng(i).random(mask.shape) < 0.3] = UNLABELED
        masks.append(mask.astype(np.int16))
    return masks


def mask_rows(task, maps):
    """Return the N x R x D rows of N x D x h x w maps, in two batches."""
    maps = torch.from_numpy(maps)
    parts = [task.rows(maps[:3], 0), task.rows(maps[3:], 3)]
    return task.finish(torch.cat(parts).numpy())


def cells_of(masks):
    return np.stack([
        sample_cells(mask, GRID).ravel() for mask in masks
    ])  # fmt: skip


@pytest.mark.parametrize('width', [2, 80])
def test_cells_are_predicted_by_fits_without_the_image(width):
    """A fit for each timestep, without the cells that are ignored."""
    masks = masks_of(7)
    masks[4][:] = UNLABELED  # at all centers of cells
    masks[4][0, 0] = 1
    cells = cells_of(masks)
    assert (cells[4] == UNLABELED).all() and (cells == UNLABELED).sum() > 15
    maps = rng().normal(size=(2, 7, width, *GRID)) + 1
    maps[0, :, 0] += cells.reshape(7, *GRID)
    task = MaskTask(masks)
    feats = np.stack([mask_rows(task, m) for m in maps], 1)
    measured = task.measure(feats, GRID)

    some = [0, 1, 2, 3, 5, 6]
    cells, counts = cells[some], cells[some] != UNLABELED
    targets = (cells[..., None] == [0, 1, 2]).astype(float)
    empty = np.empty((6, 12, 0))
    constant = refit(empty, targets, MaskTask.penalty, counts)
    baseline = squares(constant, targets, counts)
    for m, own in zip(measured, maps):
        rows = own[some].reshape(6, width, 12).transpose(0, 2, 1)
        used = rows[counts]
        rows = (rows - used.mean(0)) / used.std(0)
        predicted = refit(rows, targets, MaskTask.penalty, counts)
        errors = squares(predicted, targets, counts)
        skill = (baseline - errors) / baseline.mean()
        np.testing.assert_allclose(m.skill[some], skill, rtol=0, atol=1e-6)
        assert np.isnan(m.skill[4])
        assert m.r2 == pytest.approx(skill.mean())
        guess = torch.from_numpy(predicted.argmax(-1)[counts])
        truth = torch.from_numpy(cells[counts]).long()
        areas = IoUMetric.intersect_and_union(guess, truth, 3, UNLABELED)
        iou = np.nanmean((areas[0] / areas[1]).numpy())
        assert m.score[0] == pytest.approx(iou)
    assert measured[0].r2 > 0 > measured[1].r2


def test_the_mean_iou_is_that_of_mmseg_without_absent_classes():
    """Class 3 occurs in no label, class 4 neither in labels nor guesses."""
    labels = rng().integers(0, 3, (8, 5))
    labels[:, 1] = UNLABELED
    guess = rng(1).integers(0, 4, (8, 5))
    task = MaskTask(masks_of(3))
    score, low, high = task.score(np.eye(5)[guess], labels)
    areas = IoUMetric.intersect_and_union(
        torch.from_numpy(guess.ravel()), torch.from_numpy(labels.ravel()), 5,
        UNLABELED,
    )  # fmt: skip
    assert score == pytest.approx(np.nanmean((areas[0] / areas[1]).numpy()))
    assert 0 <= low < score < high <= 1


def test_the_interval_of_the_mean_iou_covers_that_of_many_images():
    """Images differ in how often their cells are predicted correctly."""
    task, random = MaskTask(masks_of(3)), rng()

    def draw(num_images):
        labels = random.integers(0, 3, (num_images, 12))
        wrong = random.random((num_images, 12)) < random.beta(
            2, 4, (num_images, 1)
        )
        return np.eye(3)[np.where(wrong, (labels + 1) % 3, labels)], labels

    truth = task.score(*draw(20_000))[0]
    intervals = [task.score(*draw(30))[1:] for _ in range(200)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.9 < covered < 0.99


def test_maps_of_one_cell_are_masks_of_one_class():
    masks = [np.full((4, 4), i % 2, np.int16) for i in range(8)]
    task = MaskTask(masks)
    task.check_grid((1, 1))
    maps = rng().normal(size=(8, 3, 1, 1))
    maps[:, 0, 0, 0] += 5 * (np.arange(8) % 2)
    (m,) = task.measure(mask_rows(task, maps)[:, None], (1, 1))
    assert m.score[0] == 1
    assert m.r2 > 0.5


@pytest.mark.parametrize('max_cells', [1000, 32, 8, 3])
def test_so_many_cells_are_used_at_most(monkeypatch, max_cells):
    monkeypatch.setattr(probe_masks, 'MAX_CELLS', max_cells)
    masks = masks_of(8)
    task = MaskTask(masks)
    images = np.arange(8)
    used = task.labels(GRID, images, images)
    assert used.shape == (8, min(12, max(1, max_cells // 8)))
    if max_cells == 1000:  # each cell once
        every = np.sort(cells_of(masks), 1)
        np.testing.assert_array_equal(np.sort(used, 1), every)
    # The features are of the same cells, the labels of other images too.
    maps = cells_of(masks).reshape(8, 1, *GRID).astype(float)
    np.testing.assert_array_equal(mask_rows(task, maps)[..., 0], used)
    others = task.labels(GRID, images, images[::-1])
    flipped = mask_rows(task, maps[::-1].copy())[..., 0]
    np.testing.assert_array_equal(others, flipped)


@pytest.mark.parametrize('height', range(1, 40, 3))
def test_cells_have_the_class_of_the_pixel_at_their_center(height):
    """The reference is exact rational arithmetic."""
    width = 3 * height % 41 + 1
    mask = np.arange(height * width).reshape(height, width)
    for grid in ((1, 1), (2, 3), (4, 4), (7, 16), (13, 5)):
        cells = sample_cells(mask, grid)
        assert cells.shape == grid
        for i, j in np.ndindex(grid):
            y = Fraction(2 * i + 1, 2 * grid[0]) * height
            x = Fraction(2 * j + 1, 2 * grid[1]) * width
            assert cells[i, j] == int(y) * width + int(x)


@pytest.mark.parametrize('ignore_index', [255, 0])
def test_masks_are_read_with_the_ignored_class_of_the_data(ignore_index):
    label_map = torch.tensor([[0, 1], [2, 255]])
    (sample,) = seg_samples([label_map])
    mask = MaskTask.read(sample, ignore_index)
    expected = label_map.masked_fill(label_map == ignore_index, UNLABELED)
    assert torch.equal(mask, expected.to(torch.int16))
    (sample,) = seg_samples([torch.full((2, 2), ignore_index)])
    assert MaskTask.read(sample, ignore_index) is None


def filled(*classes):
    return [np.full((8, 8), c, np.int16) for c in classes]


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        (filled(1, 1, 1), r'masks of two classes .*got \[1\] in 3 '),
        (filled(1, 0), '3 labeled images or more, got 2'),
    ],
)
def test_too_few_labels_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        MaskTask(targets)


def test_classes_at_no_center_of_a_cell_are_refused():
    masks = filled(1, 1, 1, 1)
    masks[0][0, 0] = 0
    task = MaskTask(masks)
    task.check_grid((8, 8))
    message = (
        r'a 4 x 4 grid, got \[1\] in 4 of 4 .*larger maps \(model.teacher'
    )
    with pytest.raises(ValueError, match=message):
        task.check_grid((4, 4))


def test_too_few_images_with_a_center_that_counts_are_refused():
    masks = filled(*[UNLABELED] * 4)
    for mask in masks:
        mask[0, :2] = 0, 1
    masks[0][:], masks[1][:] = 0, 1
    task = MaskTask(masks)
    task.check_grid((8, 8))
    message = r'3 images .* a 4 x 4 grid, got \[0, 1\] in 2 of 4'
    with pytest.raises(ValueError, match=message):
        task.check_grid((4, 4))
