"""Keypoints from complete maps, against explicit refits."""

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.analysis.probe import measurement
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask
from tests.helpers.refits import refit, scale

NUM, POINTS = 12, 5


@pytest.fixture(autouse=True)
def _few_permutations(monkeypatch):
    monkeypatch.setattr(measurement, 'NUM_PERMUTATIONS', 4)


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(seed=0, dense=False):
    """Return N x K x 3 keypoints; those that do not count are anything."""
    points = rng(seed).uniform(size=(NUM, POINTS, 3)).astype(np.float32)
    points[..., 2] = dense or rng(seed + 1).random((NUM, POINTS)) < 0.6
    if not dense:
        points[:, 3, 2] = 0  # counts in no image
        points[:, 4, 2] = np.arange(NUM) == 2  # in one, not to fit to
        points[7, :, 2] = np.arange(POINTS) == 0
        points[5, :, 2] = 0  # cannot be scored
        points[points[..., 2] == 0] = [0.3, 0.4, 0]
    return points


def features(points, task, shape=(3, 2, 2), noise=0.3):
    """Return N x 1 x D features of maps of which the keypoints are linear."""
    maps = noise * rng(7).normal(size=(NUM, *shape)).astype(np.float32)
    flat = maps.reshape(NUM, -1)
    num = min(6, flat.shape[1])
    flat[:, :num] += points[:, :3, :2].reshape(NUM, 6)[:, :num]
    maps = torch.from_numpy(maps)
    rows = torch.cat([task.rows(maps[:5], 0), task.rows(maps[5:], 5)])
    return flat, task.finish(rows.numpy())


def brute_force(flat, points):
    """Return the N x K x 2 predictions of a fit for each keypoint."""
    scaled = scale(flat[:, None].astype(float))
    predicted = np.zeros((NUM, POINTS, 2))
    for k in range(POINTS):
        rows = np.flatnonzero(points[:, k, 2])
        if len(rows) > 1:
            predicted[rows, k] = refit(
                scaled[rows], points[rows, k, None, :2], KeypointTask.penalty
            )[:, 0]
    return predicted


@pytest.mark.parametrize('shape', [(3, 2, 2), (2, 5, 6), (4, 1, 1)])
@pytest.mark.parametrize('dense', [False, True])
@pytest.mark.parametrize('seed', range(3))
def test_keypoints_are_predicted_by_fits_without_the_image(shape, dense, seed):
    points = draw(seed, dense).astype(float)
    task = KeypointTask([*points])
    flat, rows = features(points, task, shape)
    (m,) = task.measure(rows[:, None], (2, 2))
    predicted = brute_force(flat, points)
    np.testing.assert_allclose(
        task.predict(rows), predicted, rtol=0, atol=1e-6
    )
    constant = brute_force(np.zeros((NUM, 1)), points)

    counts = points[..., 2] > 0
    counts &= counts.sum(0) > 1
    scored = np.flatnonzero(counts.any(1))
    assert dense or 5 not in scored
    squares, lengths, baseline = [], [], []
    for i in scored:
        difference = (predicted - points[..., :2])[i, counts[i]]
        squares.append((difference**2).sum(1).mean())
        lengths.append(np.linalg.norm(difference, axis=1).mean())
        difference = (constant - points[..., :2])[i, counts[i]]
        baseline.append((difference**2).sum(1).mean())
    skill = np.subtract(baseline, squares) / np.mean(baseline)
    np.testing.assert_allclose(m.skill[scored], skill, rtol=0, atol=1e-6)
    assert np.isnan(m.skill).sum() == NUM - len(scored)
    mean, half = confidence_interval(lengths)
    high = min(0, half - mean)
    assert m.score == pytest.approx((-mean, -mean - half, high))
    if dense:
        assert m.observed == pytest.approx(m.r2)


def test_values_of_keypoints_that_do_not_count_change_nothing():
    points = draw()
    measured = []
    for value in (0.3, 0.9):
        points[points[..., 2] == 0] = [value, 1 - value, 0]
        task = KeypointTask([*points])
        _, rows = features(draw(), task)
        measured.append(task.measure(rows[:, None], (2, 2))[0])
    first, second = measured
    np.testing.assert_array_equal(first.skill, second.skill)
    np.testing.assert_array_equal(first.null, second.null)
    assert first.score == second.score
    assert first.observed == second.observed


def test_each_timestep_has_its_own_fit():
    points = draw(dense=True)
    task = KeypointTask([*points])
    rows = [features(points, task, noise=noise)[1] for noise in (0.05, 3)]
    measured = task.measure(np.stack(rows, 1), (2, 2))
    assert measured[0].r2 > 0 > measured[1].r2
    assert measured[0].score[0] > measured[1].score[0]
    (second,) = task.measure(rows[1][:, None], (2, 2))
    np.testing.assert_array_equal(second.skill, measured[1].skill)
    np.testing.assert_array_equal(second.null, measured[1].null)


def test_without_features_the_mean_position_is_predicted():
    points = draw(dense=True)
    task = KeypointTask([*points])
    (m,) = task.measure(np.zeros((NUM, 1, 1, 3)), (2, 2))
    assert m.r2 == pytest.approx(0, abs=1e-3)
    coords = points[..., :2]
    means = (coords.sum(0) - coords) / (NUM - 1)
    nme = np.linalg.norm(means - coords, axis=-1).mean()
    assert m.score[0] == pytest.approx(-nme, rel=1e-3)


def test_keypoints_that_never_move_are_measured():
    points = np.full((NUM, 2, 3), 0.5, np.float32)
    (m,) = KeypointTask([*points]).measure(
        rng().normal(size=(NUM, 1, 1, 3)), (2, 2)
    )
    assert np.isfinite([m.r2, m.observed, *m.score, *m.null]).all()


def of(*counts):
    points = np.full((len(counts), 2, 3), 0.5)
    points[..., 2] = counts
    return [*points]


def test_too_few_labels_are_refused():
    with pytest.raises(ValueError, match='3 labeled images or more, got 2'):
        KeypointTask(of([1, 1], [1, 1]))
    message = 'counts in two images or more, got none in 3; label more'
    with pytest.raises(ValueError, match=message):
        KeypointTask(of([1, 0], [0, 1], [0, 0]))
    KeypointTask(of([1, 0], [1, 0], [0, 1]))
