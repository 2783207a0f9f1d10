"""Predict the classes of the cells of a feature map."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.analysis.probe.tasks.base import MIN_IMAGES, Grid
from repfusion_mm.analysis.probe.tasks.classification import Classification
from repfusion_mm.models.utils.labels import (
    UNLABELED,
    count_classes,
    read_map,
)

#: Cells of all masks together: more hardly change what is fitted.
MAX_CELLS = 5000


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


def mean_ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the mean of ... x K ratios over the last axis, without 0 / 0."""
    ratios = np.full(part.shape, np.nan)
    np.divide(part, total, out=ratios, where=total > 0)
    return np.nanmean(ratios, -1)
