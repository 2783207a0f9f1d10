"""Arrangements of labels, of which permutations are drawn."""

import itertools

import numpy as np
import pytest

from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask


@pytest.mark.parametrize(
    'labels',
    [[0, 0, 1, 1], [5, 5, 7, 7, 7], [0, 0, 1, 1, 2, 2], [3] * 3 + [4] * 4],
)
def test_arrangements_of_classes_are_counted(labels):
    """Two that differ in the names of the classes are the same."""
    task = ClassTask([*np.array(labels)])
    found = {
        frozenset(
            frozenset(i for i, k in enumerate(order) if labels[k] == label)
            for label in labels
        )
        for order in itertools.permutations(range(len(labels)))
    }
    orders = map(np.array, itertools.permutations(range(len(labels))))
    assert len({task.arrangement(order) for order in orders}) == len(found)
    assert task.num_arrangements(len(labels)) == len(found)


def test_no_permutation_is_the_labels_themselves():
    labels = np.arange(10) % 2
    task = ClassTask([*labels])
    orders = [*task.permutations(10)]
    assert len(orders) == 99
    for order in orders:
        same = labels[order] == labels
        assert same.any() and not same.all()
    assert not [*ClassTask([*labels[:8]]).permutations(8)]


def test_five_images_with_keypoints_are_enough():
    points = np.ones((5, 2, 3), np.float32) * 0.5
    task = KeypointTask([*points])
    assert len([*task.permutations(5)]) == 99
    assert not [*task.permutations(4)]
