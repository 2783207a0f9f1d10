"""The linear model and the score of a probe, for each kind of label.

Which labels count is decided as in the decoders, by
:mod:`repfusion_mm.models.utils.labels`.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.models.losses.utils import pool
from repfusion_mm.models.utils.labels import (
    UNLABELED,
    count_classes,
    count_points,
    image_name,
    read_classes,
    read_map,
    read_points,
)

#: Features and targets of some images.
Data = Tuple[np.ndarray, np.ndarray]
#: Of masks; further cells do not change what is fitted.
MAX_CELLS = 20_000


class Task(NamedTuple):
    """What a linear model predicts, from which features, and its score."""

    field: str  # of a data sample, with the label
    metric: str  # name of the score; higher is better
    #: Label of a data sample, None if nothing counts; of it and ignore_index.
    target: Callable[[Any, int], Optional[torch.Tensor]]
    feature: Callable[[torch.Tensor], torch.Tensor]  # of N x C x H x W maps
    score: Callable[[Data, Data], float]  # fit to the first, on the second
    splitter: str = 'ShuffleSplit'  # class of scikit-learn


def find_task(sample: Any) -> Optional[Task]:
    """Return the task for a data sample, or None if it has no label."""
    # A label of probabilities is refused by the first task.
    if 'gt_score' in sample:
        return TASKS[0]
    return next((task for task in TASKS if task.field in sample), None)


def read_label(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
    """Return the class of an image, which must have one.

    Raises:
        ValueError: It has several classes, or only probabilities.
    """
    if 'gt_label' not in sample:
        raise ValueError(
            'expected gt_label, the class of an image, for a probe, got '
            f'gt_score{image_name(sample)}; set probe_dataset to images of '
            'one class each, and remove to_onehot and batch_augments from '
            'the data preprocessor'
        )
    label = read_classes(sample)
    if label is not None and len(label) != 1:
        raise ValueError(
            'expected one class label for an image, got '
            f'{label.tolist()}{image_name(sample)}; a probe '
            'supports no other number: set probe_dataset to such images'
        )
    if label is None or not count_classes(label, UNLABELED):
        return None
    return label[0]


def read_mask(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
    """Return H x W classes, ``UNLABELED`` for pixels that do not count."""
    label_map = read_map(sample)
    if label_map is None:
        return None
    mask = label_map[0]
    counts = count_classes(mask, ignore_index)
    # At most 32768 classes, in a quarter of the memory.
    mask = mask.masked_fill(~counts, UNLABELED).to(torch.int16)
    return mask if counts.any() else None


def read_keypoints(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
    """Return K x 3 keypoints (x, y, weight), see ``count_points``."""
    points = read_points(sample)
    if points is None:
        return None
    coords, weights = count_points(points)
    return torch.cat([coords, weights[:, None]], 1) if weights.any() else None


def score_classes(train: Data, test: Data) -> float:
    """Predict classes by logistic regression; return the accuracy."""
    model = _standardized('LogisticRegression', max_iter=1000)
    return model.fit(*train).score(*test)


def score_masks(train: Data, test: Data) -> float:
    """Predict the class of each cell; return the mean IoU.

    The mean is over the classes that occur in the labels or the predictions.
    """
    from sklearn.metrics import jaccard_score

    model = _standardized('LogisticRegression', max_iter=200)
    model.fit(*select_cells(*train))
    inputs, labels = select_cells(*test)
    return jaccard_score(labels, model.predict(inputs), average='macro')


def select_cells(feats: np.ndarray, masks: np.ndarray) -> Data:
    """Return the features and labels of at most ``MAX_CELLS`` cells.

    Args:
        feats: N x h x w x C features.
        masks: N masks of H x W, which may differ in size. The label of a cell
            is the class of the pixel at its center.
    """
    labels = np.stack([sample_cells(mask, feats.shape[1:3]) for mask in masks])
    cells = np.flatnonzero(count_classes(labels, UNLABELED))
    if len(cells) > MAX_CELLS:
        rng = np.random.default_rng(0)
        cells = rng.choice(cells, MAX_CELLS, replace=False)
    return feats.reshape(-1, feats.shape[-1])[cells], labels.flatten()[cells]


def sample_cells(mask: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return the h x w values of a mask at the centers of a grid's cells.

    A center between two pixels takes the one to the right or below.
    """
    rows, columns = (
        (2 * np.arange(cells) + 1) * pixels // (2 * cells)
        for cells, pixels in zip(grid, mask.shape)
    )
    return mask[rows[:, None], columns]


def score_keypoints(train: Data, test: Data) -> float:
    """Predict keypoints from complete maps by ridge regression.

    Each keypoint is fitted to the images in which it counts. The score is
    minus the mean distance of the keypoints that count, as a fraction of the
    image sides. Keypoints that count in no image of ``train`` are left out.
    """
    feats, points = train
    counts, test_counts = (data[1][..., 2] > 0 for data in (train, test))
    errors = []
    # Keypoints that count in the same images are fitted together.
    patterns, groups = np.unique(counts, axis=1, return_inverse=True)
    for group, rows in enumerate(patterns.T):
        keypoints = np.flatnonzero(groups.ravel() == group)
        scored = test_counts[:, keypoints]
        if not rows.any() or not scored.any():
            continue
        model = _standardized('Ridge', alpha=feats.shape[1] / 10)
        targets = points[rows][:, keypoints, :2]
        model.fit(feats[rows], targets.reshape(rows.sum(), -1))
        target = test[1][:, keypoints, :2]
        error = model.predict(test[0]).reshape(target.shape) - target
        errors.append(np.linalg.norm(error, axis=-1)[scored])
    return -float(np.concatenate(errors).mean())


def _standardized(name: str, **settings):
    """Build a linear model of scikit-learn for standardized features."""
    from sklearn import linear_model, pipeline, preprocessing

    model = getattr(linear_model, name)(**settings)
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


TASKS = (
    Task('gt_label', 'accuracy', read_label, pool, score_classes,
         splitter='StratifiedShuffleSplit'),
    Task('gt_sem_seg', 'mean IoU', read_mask,
         lambda maps: maps.movedim(1, -1), score_masks),
    Task('gt_instance_labels', 'minus NME (image sides)', read_keypoints,
         lambda maps: maps.flatten(1), score_keypoints),
)  # fmt: skip
