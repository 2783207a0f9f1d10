"""What a linear probe is fitted to, and how it is scored, for each task.

Scores are such that more is better.
"""

from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import jaccard_score
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from repfusion_mm.models.decoders.keypoint_decoder import read_points
from repfusion_mm.models.losses.losses import pool


class ClassProbe:
    """Logistic regression of the class on pooled features; accuracy."""

    field, metric = 'gt_label', 'accuracy'

    def target(self, sample) -> np.ndarray:
        label = torch.as_tensor(sample.gt_label).flatten()
        if len(label) != 1:
            raise ValueError(
                f'expected one class label for an image, got {label.tolist()}'
            )
        return label.cpu().numpy()[0]

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        return pool(feat)

    def splits(self, targets: np.ndarray, **arguments):
        splitter = StratifiedShuffleSplit(**arguments)
        return splitter.split(targets, targets)

    def score(self, feats, targets, train, test) -> float:
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000)
        )
        probe.fit(feats[train], targets[train])
        return probe.score(feats[test], targets[test])


class MaskProbe:
    """Logistic regression of each cell's class on its feature; mean IoU.

    A cell of the teacher's grid has the class at its centre; cells of the
    class 255 do not count.
    """

    field, metric = 'gt_sem_seg', 'mean IoU'
    max_cells = 20_000

    def target(self, sample) -> np.ndarray:
        return sample.gt_sem_seg.data[0].cpu().numpy()

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        return feat.movedim(1, -1)

    def splits(self, targets: np.ndarray, **arguments):
        return ShuffleSplit(**arguments).split(targets)

    def score(self, feats, targets, train, test) -> float:
        grid = feats.shape[1:3]
        cells = F.interpolate(
            torch.from_numpy(targets)[:, None].float(), size=grid
        )[:, 0].long().numpy()  # fmt: skip
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=200)
        )
        probe.fit(*self._take(feats, cells, train))
        inputs, truth = self._take(feats, cells, test)
        return jaccard_score(truth, probe.predict(inputs), average='macro')

    def _take(self, feats, cells, rows):
        inputs = feats[rows].reshape(-1, feats.shape[-1])
        truth = cells[rows].reshape(-1)
        counts = np.flatnonzero(truth != 255)
        if len(counts) > self.max_cells:
            rng = np.random.default_rng(0)
            counts = rng.choice(counts, self.max_cells, replace=False)
        return inputs[counts], truth[counts]


class KeypointProbe:
    """Ridge regression of the key points on the whole map; minus the NME.

    The error is that of an image's key points, in sides of the image.
    """

    field, metric = 'gt_instance_labels', 'minus NME (image sides)'

    def target(self, sample) -> np.ndarray:
        return read_points(sample).cpu().numpy()

    def feature(self, feat: torch.Tensor) -> torch.Tensor:
        return feat.flatten(1)

    def splits(self, targets: np.ndarray, **arguments):
        return ShuffleSplit(**arguments).split(targets)

    def score(self, feats, targets, train, test) -> float:
        scaler = StandardScaler().fit(feats[train])
        inputs = scaler.transform(feats[train])
        probe = Ridge(alpha=inputs.shape[1] / 10)
        probe.fit(inputs, targets[train].reshape(len(train), -1))
        found = probe.predict(scaler.transform(feats[test]))
        errors = found.reshape(targets[test].shape) - targets[test]
        return -float(np.linalg.norm(errors, axis=-1).mean())


PROBES = (ClassProbe, MaskProbe, KeypointProbe)


def find_probe(sample) -> Optional[object]:
    """Return the probe that reads a data sample, or None for no label."""
    for probe in PROBES:
        if probe.field in sample:
            return probe()
    return None
