"""The linear model and the score of a probe, for each kind of label.

scikit-learn is imported where it is used: only probes need it.
"""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from repfusion_mm.models.decoders.keypoint_decoder import read_points
from repfusion_mm.models.losses.utils import pool


class ProbeTask:
    """What a linear model predicts, from which features, and its score.

    Attributes:
        field: The field of a data sample that holds the label.
        metric: The name of the score; higher is better.
    """

    field: str
    metric: str

    def target(self, sample) -> np.ndarray:
        """Return the label of a data sample."""
        raise NotImplementedError

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        """Return the inputs of the linear model for N x C x H x W maps."""
        raise NotImplementedError

    def splits(
        self, targets: np.ndarray, **arguments
    ) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield the indices of training and test images.

        Args:
            targets: The labels of all images.
            **arguments: Of scikit-learn's ``ShuffleSplit``.
        """
        from sklearn.model_selection import ShuffleSplit

        return ShuffleSplit(**arguments).split(targets)

    def score(
        self,
        feats: np.ndarray,
        targets: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
    ) -> float:
        """Fit the linear model to some images and score it on others."""
        raise NotImplementedError


class ClassProbe(ProbeTask):
    """Predict classes from pooled features by logistic regression."""

    field, metric = 'gt_label', 'accuracy'

    def target(self, sample) -> np.ndarray:
        label = torch.as_tensor(sample.gt_label).flatten()
        if len(label) != 1:
            raise ValueError(
                'expected one class label for each image, got '
                f'{label.tolist()}; set probe_dataset to images of one class '
                'each'
            )
        return label.cpu().numpy()[0]

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        return pool(feat)

    def splits(
        self, targets: np.ndarray, **arguments
    ) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        from sklearn.model_selection import StratifiedShuffleSplit

        return StratifiedShuffleSplit(**arguments).split(targets, targets)

    def score(
        self,
        feats: np.ndarray,
        targets: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
    ) -> float:
        probe = _logistic_regression(max_iter=1000)
        probe.fit(feats[train], targets[train])
        return probe.score(feats[test], targets[test])


class MaskProbe(ProbeTask):
    """Predict the class of each cell of the map by logistic regression.

    The label of a cell is the class at its center. Cells of class 255 are
    ignored.
    """

    field, metric = 'gt_sem_seg', 'mean IoU'
    max_cells = 20_000

    def target(self, sample) -> np.ndarray:
        return sample.gt_sem_seg.data[0].cpu().numpy()

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        return feat.movedim(1, -1)

    def score(
        self,
        feats: np.ndarray,
        targets: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
    ) -> float:
        from sklearn.metrics import jaccard_score

        masks = torch.from_numpy(targets)[:, None].float()
        cells = F.interpolate(masks, size=feats.shape[1:3])[:, 0]
        labels = cells.long().numpy()
        probe = _logistic_regression(max_iter=200)
        probe.fit(*self._select(feats, labels, train))
        inputs, truth = self._select(feats, labels, test)
        return jaccard_score(truth, probe.predict(inputs), average='macro')

    def _select(
        self, feats: np.ndarray, labels: np.ndarray, images: np.ndarray
    ) -> Tuple[np.ndarray, np.ndarray]:
        """Return features and labels of at most ``max_cells`` cells."""
        inputs = feats[images].reshape(-1, feats.shape[-1])
        truth = labels[images].reshape(-1)
        rows = np.flatnonzero(truth != 255)
        if len(rows) > self.max_cells:
            rng = np.random.default_rng(0)
            rows = rng.choice(rows, self.max_cells, replace=False)
        return inputs[rows], truth[rows]


class KeypointProbe(ProbeTask):
    """Predict keypoints from the complete map by ridge regression.

    The score is minus the mean error of an image's keypoints, in sides of
    the image.
    """

    field, metric = 'gt_instance_labels', 'minus NME (image sides)'

    def target(self, sample) -> np.ndarray:
        return read_points(sample).cpu().numpy()

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        return feat.flatten(1)

    def score(
        self,
        feats: np.ndarray,
        targets: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
    ) -> float:
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(feats[train])
        inputs = scaler.transform(feats[train])
        probe = Ridge(alpha=inputs.shape[1] / 10)
        probe.fit(inputs, targets[train].reshape(len(train), -1))
        points = probe.predict(scaler.transform(feats[test]))
        errors = points.reshape(targets[test].shape) - targets[test]
        return -float(np.linalg.norm(errors, axis=-1).mean())


def find_task(sample) -> Optional[ProbeTask]:
    """Return the task for a data sample, or None if it has no label."""
    for task in (ClassProbe, MaskProbe, KeypointProbe):
        if task.field in sample:
            return task()
    return None


def _logistic_regression(max_iter: int):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=max_iter)
    )
