"""Predict classes; the task of the classes of images."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.analysis.probe.tasks.base import Grid, Task
from repfusion_mm.analysis.probe.tasks.ridge import (
    LeaveOneOutRidge,
    standardize,
)
from repfusion_mm.models.losses.utils import pool
from repfusion_mm.models.utils.labels import (
    UNLABELED,
    count_classes,
    image_name,
    read_classes,
)


class Classification(Task):
    """Predict one-hot classes by ridge regression."""

    @abstractmethod
    def labels(
        self, grid: Grid, images: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        """Return n x R classes, at the rows of the features of images.

        Args:
            grid: Height and width of the feature maps.
            images: The indices of n images, which define the rows.
            others: The indices of n images, whose labels are returned.
        """

    @abstractmethod
    def score(
        self, predicted: np.ndarray, labels: np.ndarray
    ) -> Tuple[float, float, float]:
        """Return score and 95% interval of N x R x K predictions.

        Args:
            predicted: K values for each class.
            labels: N x R indices of classes, ``UNLABELED`` for the others.
        """

    def measure(self, features: np.ndarray, grid: Grid) -> List[Measurement]:
        if self.is_shared:
            return self._measure(features, grid)
        return [
            measurement
            for t in range(features.shape[1])
            for measurement in self._measure(features[:, t : t + 1], grid)
        ]

    def _measure(self, features: np.ndarray, grid: Grid) -> List[Measurement]:
        """Fit one linear model to all given timesteps."""
        every = np.arange(len(features))
        own = self.labels(grid, every, every)
        images = np.flatnonzero((own != UNLABELED).any(1))
        features, own = features[images], own[images]
        counts = own != UNLABELED
        classes = np.unique(own[counts])
        frequencies = one_hot(own[counts], classes).mean(0)

        def targets(others: np.ndarray) -> np.ndarray:
            """Return the one-hot labels of other images at the same rows."""
            labels = self.labels(grid, images, others)
            values = one_hot(labels, classes)
            values[labels == UNLABELED] = frequencies
            return values

        fit = Fit(features, counts, self.penalty)
        skills, predicted = fit(targets(images))
        # For permutations all rows count, so that it does not matter whose
        # labels are missing where.
        if not counts.all():
            fit = Fit(features, np.ones_like(counts), self.penalty)
        observed = fit(targets(images))[0].mean(0)
        null = np.array([
            fit(targets(images[order]))[0].mean(0)
            for order in self.permutations(len(images))
        ]).reshape(-1, features.shape[1])  # fmt: skip
        index = np.where(counts, np.searchsorted(classes, own), UNLABELED)
        padded = np.full((len(every), features.shape[1]), np.nan)
        padded[images] = skills
        return [
            Measurement(
                padded[:, t],
                self.score(predicted[:, t], index),
                observed[t],
                null[:, t],
                is_own_fit=features.shape[1] == 1,
            )
            for t in range(features.shape[1])
        ]


class Fit:
    """Predict n x R x K targets from n x T x R x D features, and score it.

    Args:
        features: The features.
        counts: n x R booleans, which rows count.
        penalty: Penalty of the ridge regression.
    """

    def __init__(
        self, features: np.ndarray, counts: np.ndarray, penalty: float
    ) -> None:
        self._shape = features.shape[:3]
        self._counts = counts
        flat = features.reshape(len(features), -1, features.shape[-1])
        repeated = np.tile(counts, (1, self._shape[1]))
        self._ridge = LeaveOneOutRidge(
            standardize(flat, repeated), repeated, penalty
        )
        empty = np.empty((*counts.shape, 0))
        self._constant = LeaveOneOutRidge(empty, counts, penalty)

    def __call__(self, targets: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return n x T skills, and n x T x R x K predictions."""
        predicted = self._ridge.predict(
            np.tile(targets, (1, self._shape[1], 1))
        ).reshape(*self._shape, -1)
        errors = squared_errors(
            predicted, targets[:, None], self._counts[:, None]
        )
        baseline = squared_errors(
            self._constant.predict(targets), targets, self._counts
        )
        return (baseline[:, None] - errors) / baseline.mean(), predicted


class ClassTask(Classification):
    """Predict the class of an image from pooled features."""

    field = 'gt_label'
    metric = 'accuracy'
    is_shared = True
    #: With a smaller one, the highest R² is more often not at the timesteps of
    #: the highest accuracy (docs/timesteps.md).
    penalty = 0.5

    def __init__(self, targets: Sequence[np.ndarray]) -> None:
        super().__init__(targets)
        self.targets = np.array(targets)
        classes, counts = np.unique(self.targets, return_counts=True)
        if len(classes) < 2:
            raise ValueError(
                'expected images of two classes or more, got '
                f'{len(targets)} of class {classes.tolist()}; label images '
                'of other classes, or raise --max-images'
            )
        if counts.min() < 2:
            raise ValueError(
                'expected two labeled images or more of each class, to fit '
                'to one and score on the other, got one of class '
                f'{classes[counts.argmin()]}; label more, or raise '
                '--max-images'
            )

    @staticmethod
    def read(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
        """Return the class of an image, which must have one.

        Raises:
            ValueError: It has several classes, or only probabilities.
        """
        if 'gt_label' not in sample:
            raise ValueError(
                'expected gt_label, the class of an image, for a probe, got '
                f'gt_score{image_name(sample)}; set probe_dataset to images '
                'of one class each, and remove to_onehot and batch_augments '
                'from the data preprocessor'
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
        if label < 0:
            raise ValueError(
                f'expected a class of 0 or more, or {UNLABELED} for an '
                f'unlabeled image, got {int(label)}{image_name(sample)}; '
                'correct the label'
            )
        return label[0]

    def rows(self, maps: torch.Tensor, begin: int) -> torch.Tensor:
        return pool(maps)[:, None]

    def labels(
        self, grid: Grid, images: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        return self.targets[others][:, None]

    def arrangement(self, order: np.ndarray) -> Hashable:
        """Number the classes as they occur: their names do not matter."""
        names: Dict[int, int] = {}
        return tuple(
            names.setdefault(label, len(names))
            for label in self.targets[order].tolist()
        )

    def num_arrangements(self, num_images: int) -> int:
        sizes = [*Counter(self.targets.tolist()).values()]
        same = [*sizes, *Counter(sizes).values()]
        return math.factorial(num_images) // math.prod(
            math.factorial(size) for size in same
        )

    def score(
        self, predicted: np.ndarray, labels: np.ndarray
    ) -> Tuple[float, float, float]:
        """Return the accuracy and its exact binomial interval.

        To leave out an image makes its class rarer, and its prediction lower,
        which with few labels would be the largest part of the error. The
        prediction of its own class is therefore multiplied by n / (n - 1) for
        n images of the class: without features, all predictions of balanced
        classes are then equal. With features, it also multiplies their noise:
        for two images of each of ten classes, features that say nothing have
        an accuracy of 0.16 instead of 0.10.
        """
        from scipy.stats import binomtest

        classes, images = labels[:, 0], np.arange(len(labels))
        totals = np.bincount(classes)[classes]
        values = predicted[:, 0].copy()
        values[images, classes] *= totals / (totals - 1)
        # Of equal values, each is chosen with the same probability.
        best = np.isclose(values, values.max(1, keepdims=True), 1e-9, 1e-12)
        hits = (best[images, classes] / best.sum(1)).sum()
        interval = binomtest(round(hits), len(labels)).proportion_ci()
        return hits / len(labels), interval.low, interval.high


def one_hot(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return ... x K values, zero for labels that are none of the classes."""
    return (labels[..., None] == classes).astype(np.float64)


def squared_errors(
    predicted: np.ndarray, targets: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Average the squared errors of ... x R x K over the rows that count."""
    errors = ((predicted - targets) ** 2).sum(-1) * counts
    return errors.sum(-1) / counts.sum(-1)
