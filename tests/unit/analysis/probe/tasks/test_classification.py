"""Classes of images, against explicit refits."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from repfusion_mm.analysis.probe import measurement
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from tests.helpers.refits import refit, scale


@pytest.fixture(autouse=True)
def _few_permutations(monkeypatch):
    monkeypatch.setattr(measurement, 'NUM_PERMUTATIONS', 3)


def rng(seed=0):
    return np.random.default_rng(seed)


def class_features(labels, num_timesteps=4, width=6, noise=1.0):
    """Return N x T x 1 x D features, of which the labels are linear."""
    feats = rng().normal(size=(len(labels), num_timesteps, 1, width)) * noise
    feats[..., 0] += labels[:, None, None]
    return feats + 2


@pytest.mark.parametrize('width', [3, 60])
def test_classes_are_predicted_by_fits_without_the_image(width):
    """One fit to all timesteps, each image without all of its rows."""
    labels = np.array([2, 5, 5, 2, 7, 7, 2, 5, 7, 2])
    feats = class_features(labels, width=width)
    measured = ClassTask([*labels]).measure(feats, (1, 1))
    one_hot = (labels[:, None] == [2, 5, 7]).astype(float)
    targets = np.repeat(one_hot[:, None], 4, 1)
    predicted = refit(scale(feats[:, :, 0]), targets, ClassTask.penalty)
    # A constant, the frequency of a class among the other images.
    constant = refit(np.empty((10, 1, 0)), one_hot[:, None], 0.5)[:, 0]
    baseline = ((constant - one_hot) ** 2).sum(1)
    for t, m in enumerate(measured):
        errors = ((predicted[:, t] - one_hot) ** 2).sum(1)
        skill = (baseline - errors) / baseline.mean()
        np.testing.assert_allclose(m.skill, skill, rtol=0, atol=1e-6)
        assert m.r2 == pytest.approx(1 - errors.mean() / baseline.mean())
        error = skill.std(ddof=1) / 10**0.5
        assert m.r2_error == pytest.approx(error)
        assert m.observed == pytest.approx(m.r2)
        own = predicted[:, t].copy()
        for i, label in enumerate(labels):
            n = (labels == label).sum()
            own[i, [2, 5, 7].index(label)] *= n / (n - 1)
        hits = np.array([2, 5, 7])[own.argmax(1)] == labels
        assert m.score[0] == pytest.approx(hits.mean())
        assert m.score[1] < m.score[0] <= m.score[2]


@pytest.mark.parametrize(('each', 'num_classes'), [(2, 10), (5, 2), (3, 3)])
def test_the_accuracy_without_features_is_chance(each, num_classes):
    """To leave an image out makes its class the rarest, so never chosen."""
    labels = np.repeat(np.arange(num_classes), each)
    feats = np.zeros((len(labels), 1, 1, 4))
    (m,) = ClassTask([*labels]).measure(feats, (1, 1))
    score, low, high = m.score
    assert score == pytest.approx(1 / num_classes)
    assert low < score < high
    assert m.r2 == pytest.approx(0, abs=1e-3)
    # The most frequent class, where they are not balanced.
    labels = np.array([0] * 6 + [1] * 3)
    (m,) = ClassTask([*labels]).measure(np.zeros((9, 1, 1, 4)), (1, 1))
    assert m.score[0] == pytest.approx(2 / 3)


def test_separable_classes_have_an_accuracy_of_one():
    labels = np.arange(12) % 2
    feats = class_features(labels, 1, 3, noise=0.05)
    (m,) = ClassTask([*labels]).measure(feats, (1, 1))
    assert m.score[0] == m.score[2] == 1
    assert m.score[1] == pytest.approx(0.025 ** (1 / 12))  # exact binomial


def test_only_a_single_hard_class_is_read():
    with pytest.raises(ValueError, match=r'one class .* got \[1, 2\].*probe'):
        ClassTask.read(DataSample().set_gt_label([1, 2]), 255)
    soft = DataSample().set_gt_score(torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=r'gt_score.*one class each'):
        ClassTask.read(soft, 255)
    assert ClassTask.read(DataSample().set_gt_label(2), 255) == 2
    assert ClassTask.read(DataSample().set_gt_label(-1), 255) is None


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        ([0, 1], r'3 labeled images or more, got 2; give labels'),
        ([0] * 9, r'two classes or more, got 9 .*--max-images'),
        ([0] * 8 + [3], 'one of class 3; .*--max-images'),
        ([*range(5)], 'each class, .* got one of class 0'),
    ],
)
def test_too_few_labels_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        ClassTask(targets)
