"""Predict the classes of images, or of the cells of a feature map."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.analysis.probe.ridge import LeaveOneOutRidge, standardize
from repfusion_mm.analysis.probe.tasks import MIN_IMAGES, Grid, Task
from repfusion_mm.models.losses.utils import pool
from repfusion_mm.models.utils.labels import (
    UNLABELED,
    count_classes,
    image_name,
    read_classes,
    read_map,
)

#: Cells of all masks together: more hardly change what is fitted.
MAX_CELLS = 5000


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
                is_own_fit=not self.is_shared,
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


class MaskTask(Classification):
    """Predict the class of each cell of a feature map.

    The label of a cell is the class of the pixel at its center.
    """

    field = 'gt_sem_seg'
    metric = 'mean IoU'
    penalty = 0.02

    def __init__(self, targets: Sequence[np.ndarray]) -> None:
        super().__init__(targets)
        self.targets = targets
        self._cache: Dict[Grid, Tuple[np.ndarray, np.ndarray]] = {}
        classes = set().union(*(np.unique(mask).tolist() for mask in targets))
        classes -= {UNLABELED}
        if len(classes) < 2:
            raise ValueError(
                'expected masks of two classes or more, got '
                f'{sorted(classes)} in {len(targets)} images, without ignored '
                'pixels (ignore_index, usually 255); store the indices of '
                'classes (0, 1, ...) as pixels, not 0 and 255, or raise '
                '--max-images'
            )

    @staticmethod
    def read(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
        """Return H x W classes, ``UNLABELED`` where no pixel counts."""
        label_map = read_map(sample)
        if label_map is None:
            return None
        mask = label_map[0]
        counts = count_classes(mask, ignore_index)
        # At most 32768 classes, in a quarter of the memory.
        mask = mask.to(torch.int16).masked_fill(~counts, UNLABELED)
        return mask if counts.any() else None

    def check_grid(self, grid: Grid) -> None:
        every = np.arange(len(self.targets))
        labels = self.labels(grid, every, every)
        counts = labels != UNLABELED
        found, num_images = np.unique(labels[counts]), counts.any(1).sum()
        if len(found) < 2 or num_images < MIN_IMAGES:
            raise ValueError(
                f'expected two classes or more in {MIN_IMAGES} images or more '
                f'at the centers of the cells of a {grid[0]} x {grid[1]} '
                f'grid, got {found.tolist()} in {num_images} of '
                f'{len(labels)} masks; label more images, or choose a layer '
                'with larger maps (model.teacher.layers)'
            )

    def _cells(self, grid: Grid) -> Tuple[np.ndarray, np.ndarray]:
        """Return N x (h w) classes, and N x R random indices that are used."""
        if grid in self._cache:
            return self._cache[grid]
        classes = np.stack([sample_cells(mask, grid) for mask in self.targets])
        classes = classes.reshape(len(classes), -1)
        order = np.random.default_rng(0).random(classes.shape).argsort(1)
        num_rows = max(1, MAX_CELLS // len(classes))
        self._cache[grid] = classes, order[:, :num_rows]
        return self._cache[grid]

    def labels(
        self, grid: Grid, images: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        classes, cells = self._cells(grid)
        return np.take_along_axis(classes[others], cells[images], 1)

    def rows(self, maps: torch.Tensor, begin: int) -> torch.Tensor:
        _, cells = self._cells((maps.shape[2], maps.shape[3]))
        index = torch.from_numpy(cells[begin : begin + len(maps)])
        index = index.to(maps.device)[..., None].expand(-1, -1, maps.shape[1])
        return maps.flatten(2).transpose(1, 2).gather(1, index)

    def score(
        self, predicted: np.ndarray, labels: np.ndarray
    ) -> Tuple[float, float, float]:
        """Return the mean IoU of all cells and its jackknife interval.

        The mean is over the classes that occur in the labels or the
        predictions. The interval is Student's t interval; its standard error
        is that over images (Efron and Stein, 1981).
        """
        num_classes = predicted.shape[-1]
        counts = labels != UNLABELED
        truth = np.eye(num_classes)[labels] * counts[..., None]
        guess = np.eye(num_classes)[predicted.argmax(-1)] * counts[..., None]
        both = (truth * guess).sum(1)
        either = truth.sum(1) + guess.sum(1) - both
        iou = mean_ratio(both.sum(0), either.sum(0))
        without = mean_ratio(both.sum(0) - both, either.sum(0) - either)
        n = len(labels)
        values = n * iou - (n - 1) * without  # their mean corrects the bias
        _, half = confidence_interval(values)
        low, high = np.clip([iou - half, iou + half], 0, 1)
        return float(iou), float(low), float(high)


def sample_cells(mask: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return the h x w values of a mask at the centers of a grid's cells.

    A center between two pixels takes the one to the right or below.
    """
    rows, columns = (
        (2 * np.arange(cells) + 1) * pixels // (2 * cells)
        for cells, pixels in zip(grid, mask.shape)
    )
    return mask[rows[:, None], columns]


def one_hot(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return ... x K values, zero for labels that are none of the classes."""
    return (labels[..., None] == classes).astype(np.float64)


def squared_errors(
    predicted: np.ndarray, targets: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Average the squared errors of ... x R x K over the rows that count."""
    errors = ((predicted - targets) ** 2).sum(-1) * counts
    return errors.sum(-1) / counts.sum(-1)


def mean_ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the mean of ... x K ratios over the last axis, without 0 / 0."""
    ratios = np.full(part.shape, np.nan)
    np.divide(part, total, out=ratios, where=total > 0)
    return np.nanmean(ratios, -1)
