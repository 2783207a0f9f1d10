"""Split labeled images into those to fit a probe to, and those to score."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np

from repfusion_mm.analysis.probe.tasks import Task, sample_cells
from repfusion_mm.models.utils.labels import UNLABELED

Split = Tuple[np.ndarray, np.ndarray]


def make_splits(
    task: Task,
    targets: np.ndarray,
    num_labels: int,
    num_splits: int,
    seed: int,
    grids: Sequence[Sequence[int]],
) -> List[Split]:
    """Return random splits, in each of which a probe can be fitted.

    Classes are split in proportion to their numbers of images.

    Args:
        task: What the probe predicts.
        targets: The targets of N images, which all count.
        num_labels: Number of images to fit to, less than N.
        num_splits: Number of splits.
        seed: Seed of the splits.
        grids: Height and width of the features, for masks.

    Raises:
        ValueError: There are too few labels for the classes, or a split has
            too few.
    """
    from sklearn import model_selection

    if task.field == 'gt_label':
        check_classes(targets, num_labels)
    splitter = getattr(model_selection, task.splitter)(
        num_splits, train_size=num_labels, random_state=seed
    )
    splits = [*splitter.split(targets, targets)]
    if task.field == 'gt_sem_seg':
        check_masks(targets, splits, num_labels, grids)
    if task.field == 'gt_instance_labels':
        check_keypoints(targets, splits, num_labels)
    return splits


def check_classes(labels: np.ndarray, num_labels: int) -> None:
    """Refuse numbers of labels that cannot represent every class."""
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            'expected images of two classes or more, got '
            f'{len(labels)} of class {classes.tolist()}; label images of '
            'other classes, or raise --max-images'
        )
    if counts.min() < 2:
        raise ValueError(
            'expected two labeled images or more of each class, to fit to one '
            'and score on the other, got one of class '
            f'{classes[counts.argmin()]}; label more, or raise --max-images'
        )
    if num_labels < len(classes):
        raise ValueError(
            f'expected a label or more for each of {len(classes)} classes, '
            f'got {num_labels}; raise --num-labels'
        )
    if len(labels) - num_labels < len(classes):
        raise ValueError(
            f'expected {len(classes)} labeled images or more to score on, as '
            f'many as classes, got {len(labels) - num_labels} of '
            f'{len(labels)} with {num_labels} to fit to; lower --num-labels'
        )


def check_masks(
    masks: np.ndarray,
    splits: Sequence[Split],
    num_labels: int,
    grids: Sequence[Sequence[int]],
) -> None:
    """Refuse splits without two classes to fit to, or any to score on."""
    classes = set().union(*(np.unique(mask).tolist() for mask in masks))
    classes -= {UNLABELED}
    if len(classes) < 2:
        raise ValueError(
            'expected masks of two classes or more, got '
            f'{sorted(classes)} in {len(masks)} images, without ignored '
            'pixels (ignore_index, usually 255); store the indices of '
            'classes (0, 1, ...) as pixels, not 0 and 255, or raise '
            '--max-images'
        )
    for grid in grids:
        found = [
            {*np.unique(sample_cells(mask, grid)).tolist()} - {UNLABELED}
            for mask in masks
        ]
        for split in splits:
            train, test = (
                len(set().union(*(found[row] for row in rows)))
                for rows in split
            )
            if train < 2 or test < 1:
                raise ValueError(
                    'expected two classes or more in the cells of a '
                    f'{" x ".join(map(str, grid))} grid to fit to, and one to '
                    f'score on, got {train} and {test} in a split of '
                    f'{num_labels} images; '
                    f'{"raise" if train < 2 else "lower"} --num-labels'
                )


def check_keypoints(
    points: np.ndarray, splits: Sequence[Split], num_labels: int
) -> None:
    """Refuse splits in which no keypoint is both fitted and scored."""
    counts = points[..., 2] > 0
    for train, test in splits:
        if not (counts[train].any(0) & counts[test].any(0)).any():
            way = 'raise' if counts[test].any() else 'lower'
            raise ValueError(
                'expected a keypoint that counts both in the images to fit to '
                f'and in the others, got none in a split of {num_labels} '
                f'images; {way} --num-labels, or label more keypoints'
            )
