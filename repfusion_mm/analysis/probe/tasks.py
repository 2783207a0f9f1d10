"""The linear model and the score of a probe, for each kind of label.

A task selects the inputs and targets of a linear model, fits it to some
images and scores it on others. scikit-learn is imported where it is used.
"""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from repfusion_mm.models.decoders.keypoint_decoder import read_points
from repfusion_mm.models.losses.utils import pool

#: Indices of training and test images.
Split = Tuple[np.ndarray, np.ndarray]


class ProbeTask:
    """What a linear model predicts, and how well.

    Attributes:
        field: The field of a data sample that holds the label.
        metric: The name of the score; higher is better.
    """

    field: str
    metric: str

    def target(self, sample) -> np.ndarray:
        """Return the label of a data sample."""
        raise NotImplementedError

    def feature(self, maps: torch.Tensor) -> torch.Tensor:
        """Return what the task needs of N x C x H x W maps."""
        raise NotImplementedError

    def splits(self, targets: np.ndarray, **arguments) -> Iterator[Split]:
        """Yield random splits; ``arguments`` are scikit-learn's."""
        from sklearn.model_selection import ShuffleSplit

        return ShuffleSplit(**arguments).split(targets)

    def score(self, feats: np.ndarray, targets: np.ndarray, split: Split):
        """Fit the linear model to the training images and score it."""
        raise NotImplementedError


class ClassTask(ProbeTask):
    """Predict classes from pooled features by logistic regression."""

    field, metric = 'gt_label', 'accuracy'

    def target(self, sample) -> np.ndarray:
        label = torch.as_tensor(sample.gt_label).flatten()
        if len(label) != 1:
            raise ValueError(
                'expected one class label for each image, got '
                f'{label.tolist()}; set probe_dataset to such images'
            )
        return label.cpu().numpy()[0]

    def feature(self, maps: torch.Tensor) -> torch.Tensor:
        return pool(maps)

    def splits(self, targets: np.ndarray, **arguments) -> Iterator[Split]:
        from sklearn.model_selection import StratifiedShuffleSplit

        return StratifiedShuffleSplit(**arguments).split(targets, targets)

    def score(self, feats: np.ndarray, targets: np.ndarray, split: Split):
        train, test = split
        model = _logistic_regression(max_iter=1000)
        model.fit(feats[train], targets[train])
        return model.score(feats[test], targets[test])


class MaskTask(ProbeTask):
    """Predict the class of each cell of the map by logistic regression.

    The label of a cell is the class at its center. Cells of class 255 are
    ignored.
    """

    field, metric = 'gt_sem_seg', 'mean IoU'
    max_cells = 20_000

    def target(self, sample) -> np.ndarray:
        return sample.gt_sem_seg.data[0].cpu().numpy()

    def feature(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.movedim(1, -1)

    def score(self, feats: np.ndarray, targets: np.ndarray, split: Split):
        from sklearn.metrics import jaccard_score

        masks = torch.from_numpy(targets)[:, None].float()
        cells = F.interpolate(masks, size=feats.shape[1:3])[:, 0]
        labels = cells.long().numpy()
        model = _logistic_regression(max_iter=200)
        model.fit(*self._select(feats[split[0]], labels[split[0]]))
        inputs, truth = self._select(feats[split[1]], labels[split[1]])
        return jaccard_score(truth, model.predict(inputs), average='macro')

    def _select(self, feats: np.ndarray, labels: np.ndarray):
        """Return features and labels of at most ``max_cells`` cells."""
        cells = np.flatnonzero(labels != 255)
        if len(cells) > self.max_cells:
            rng = np.random.default_rng(0)
            cells = rng.choice(cells, self.max_cells, replace=False)
        inputs = feats.reshape(-1, feats.shape[-1])
        return inputs[cells], labels.reshape(-1)[cells]


class KeypointTask(ProbeTask):
    """Predict keypoints from the complete map by ridge regression.

    The score is minus the mean error of an image's keypoints, in sides of
    the image.
    """

    field, metric = 'gt_instance_labels', 'minus NME (image sides)'

    def target(self, sample) -> np.ndarray:
        return read_points(sample).cpu().numpy()

    def feature(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.flatten(1)

    def score(self, feats: np.ndarray, targets: np.ndarray, split: Split):
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        train, test = split
        scaler = StandardScaler().fit(feats[train])
        inputs = scaler.transform(feats[train])
        model = Ridge(alpha=inputs.shape[1] / 10)
        model.fit(inputs, targets[train].reshape(len(train), -1))
        points = model.predict(scaler.transform(feats[test]))
        errors = points.reshape(targets[test].shape) - targets[test]
        return -float(np.linalg.norm(errors, axis=-1).mean())


def find_task(sample) -> Optional[ProbeTask]:
    """Return the task for a data sample, or None if it has no label."""
    for task in (ClassTask, MaskTask, KeypointTask):
        if task.field in sample:
            return task()
    return None


def _logistic_regression(max_iter: int):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(max_iter=max_iter)
    return make_pipeline(StandardScaler(), model)
