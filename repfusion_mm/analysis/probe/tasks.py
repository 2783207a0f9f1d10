"""The linear model and the score of a probe, for each kind of label."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from repfusion_mm.models.decoders.keypoint_decoder import read_points
from repfusion_mm.models.losses.utils import pool

#: Features and targets of some images.
Data = Tuple[np.ndarray, np.ndarray]
#: Of masks; further cells do not change what is fitted.
MAX_CELLS = 20_000


class Task(NamedTuple):
    """What a linear model predicts, from which features, and its score."""

    field: str  # of a data sample, with the label
    metric: str  # name of the score; higher is better
    target: Callable[..., torch.Tensor]  # label of a data sample
    feature: Callable[[torch.Tensor], torch.Tensor]  # of N x C x H x W maps
    score: Callable[[Data, Data], float]  # fit to the first, on the second
    splitter: str = 'ShuffleSplit'  # class of scikit-learn


def find_task(sample) -> Optional[Task]:
    """Return the task for a data sample, or None if it has no label."""
    return next((task for task in TASKS if task.field in sample), None)


def read_class(sample) -> torch.Tensor:
    """Return the class of a data sample, which must have one."""
    label = torch.as_tensor(sample.gt_label).flatten()
    if len(label) != 1:
        raise ValueError(
            f'expected one class label for each image, got {label.tolist()}; '
            'set probe_dataset to images of one class each'
        )
    return label[0]


def score_classes(train: Data, test: Data) -> float:
    """Predict classes by logistic regression; return the accuracy."""
    model = _standardized('LogisticRegression', max_iter=1000)
    return model.fit(*train).score(*test)


def score_masks(train: Data, test: Data) -> float:
    """Predict the class of each cell; return the mean IoU.

    The label of a cell is the class at its center. Cells of class 255 are
    ignored.
    """
    from sklearn.metrics import jaccard_score

    model = _standardized('LogisticRegression', max_iter=200)
    model.fit(*select_cells(*train))
    inputs, labels = select_cells(*test)
    return jaccard_score(labels, model.predict(inputs), average='macro')


def select_cells(feats: np.ndarray, masks: np.ndarray) -> Data:
    """Return the features and labels of at most ``MAX_CELLS`` cells.

    The features are N x h x w x C, the masks N x H x W.
    """
    images = torch.from_numpy(masks)[:, None].float()
    labels = F.interpolate(images, size=feats.shape[1:3]).long().numpy()
    cells = np.flatnonzero(labels != 255)
    if len(cells) > MAX_CELLS:
        rng = np.random.default_rng(0)
        cells = rng.choice(cells, MAX_CELLS, replace=False)
    return feats.reshape(-1, feats.shape[-1])[cells], labels.flatten()[cells]


def score_keypoints(train: Data, test: Data) -> float:
    """Predict keypoints from complete maps by ridge regression.

    The score is minus the mean error, as a fraction of the image side.
    """
    feats, points = train
    model = _standardized('Ridge', alpha=feats.shape[1] / 10)
    model.fit(feats, points.reshape(len(points), -1))
    errors = model.predict(test[0]).reshape(test[1].shape) - test[1]
    return -float(np.linalg.norm(errors, axis=-1).mean())


def _standardized(name: str, **settings):
    """Build a linear model of scikit-learn for standardized features."""
    from sklearn import linear_model, pipeline, preprocessing

    model = getattr(linear_model, name)(**settings)
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


TASKS = (
    Task('gt_label', 'accuracy', read_class, pool, score_classes,
         splitter='StratifiedShuffleSplit'),
    Task('gt_sem_seg', 'mean IoU', lambda sample: sample.gt_sem_seg.data[0],
         lambda maps: maps.movedim(1, -1), score_masks),
    Task('gt_instance_labels', 'minus NME (image sides)', read_points,
         lambda maps: maps.flatten(1), score_keypoints),
)  # fmt: skip
