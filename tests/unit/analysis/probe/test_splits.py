"""Splits in which a probe can be fitted, or an error that names the flag."""

import numpy as np
import pytest

from repfusion_mm.analysis.probe.splits import make_splits
from repfusion_mm.analysis.probe.tasks import TASKS
from repfusion_mm.models.utils.labels import UNLABELED

CLASSES, MASKS, POINTS = TASKS
GRIDS = [(4, 4), (2, 2)]
TWO_CLASSES = np.arange(64).reshape(1, 8, 8) % 8 // 4


def split(task, targets, num_labels=4):
    return make_splits(task, targets, num_labels, 3, 0, GRIDS)


def masks(*classes):
    return np.stack([np.full((8, 8), c) for c in classes])


def points(*counts):
    targets = np.full((len(counts), 2, 3), 0.5)
    targets[..., 2] = counts
    return targets


def test_splits_are_disjoint_and_complete():
    for task, targets in (
        (CLASSES, np.arange(12) % 3),
        (MASKS, masks(*range(12))),
        (POINTS, points(*[[1, 1]] * 12)),
    ):
        for train, test in split(task, targets):
            assert len(train) == 4
            assert sorted([*train, *test]) == [*range(12)]
            if task is CLASSES:
                assert {*targets[train]} == {*targets[test]} == {0, 1, 2}


def test_masks_may_differ_in_size():
    targets = np.empty(12, dtype=object)
    targets[:] = [masks(i % 2)[0, : i + 2] for i in range(12)]
    assert len(split(MASKS, targets)) == 3


@pytest.mark.parametrize(
    ('task', 'targets', 'message'),
    [
        (CLASSES, np.zeros(9), r'two classes or more, got 9 .*--max-images'),
        (CLASSES, np.array([0] * 8 + [3]), 'got one of class 3'),
        (CLASSES, np.arange(20) % 5, r'each of 5 classes.*raise --num-labels'),
        (CLASSES, np.arange(6) % 3, 'score on, .*got 2 .*lower --num-labels'),
        (MASKS, masks(*[1] * 9), r'masks of two classes .*got \[1\] in 9 '),
        (
            MASKS,
            masks(1, *[UNLABELED] * 9, 2),
            r'a 4 x 4 grid.*got .*--num-labels',
        ),
        (
            MASKS,
            masks(0, 1, *[UNLABELED] * 9),
            'two classes or more .*raise --num-labels',
        ),
        (
            MASKS,
            np.concatenate([TWO_CLASSES, masks(*[UNLABELED] * 4)]),
            'two classes or more .*lower --num-labels',
        ),
        (
            POINTS,
            points([1, 0], *[[0, 1]] * 5, *[[0, 0]] * 60),
            'counts both .*raise --num-labels',
        ),
        (
            POINTS,
            points([1, 1], *[[0, 0]] * 4),
            'counts both .*lower --num-labels',
        ),
    ],
)
def test_too_few_labels_are_refused_with_the_flag(task, targets, message):
    with pytest.raises(ValueError, match=message):
        split(task, targets)
