"""Predict the coordinates of keypoints from complete feature maps."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.analysis.probe.tasks.base import Grid, Task
from repfusion_mm.analysis.probe.tasks.ridge import LeaveOneOutRidge, compress
from repfusion_mm.models.utils.labels import count_points, read_points


class KeypointTask(Task):
    """Predict keypoints, each fitted to the images in which it counts."""

    field = 'gt_instance_labels'
    metric = 'minus NME (image sides)'
    penalty = 0.1

    def __init__(self, targets: Sequence[np.ndarray]) -> None:
        super().__init__(targets)
        points = np.stack(targets)
        counts = points[..., 2] > 0
        #: A keypoint of a single image cannot be left out.
        self.counts = counts & (counts.sum(0) > 1)
        self.points = np.where(counts[..., None], points[..., :2], 0)
        if self.counts.any(1).sum() < 2:
            raise ValueError(
                'expected a keypoint that counts in two images or more, got '
                f'none in {len(targets)}; label more images'
            )

    @staticmethod
    def read(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
        """Return K x 3 keypoints (x, y, weight), see ``count_points``."""
        points = read_points(sample)
        if points is None:
            return None
        coords, weights = count_points(points)
        if not weights.any():
            return None
        return torch.cat([coords, weights[:, None]], 1)

    def rows(self, maps: torch.Tensor, begin: int) -> torch.Tensor:
        return maps.flatten(1)[:, None]

    def finish(self, rows: np.ndarray) -> np.ndarray:
        return compress(rows[:, 0])[:, None]

    def measure(self, features: np.ndarray, grid: Grid) -> List[Measurement]:
        return [
            self._measure(features[:, t]) for t in range(features.shape[1])
        ]

    def _measure(self, features: np.ndarray) -> Measurement:
        """Measure N x 1 x D features of one timestep."""
        empty = features[..., :0]
        scored = self.counts.any(1)
        predicted, constant = self.predict(features), self.predict(empty)
        baseline = self._errors(constant)[scored]
        skill = np.full(len(features), np.nan)
        errors = self._errors(predicted)[scored]
        skill[scored] = (baseline - errors) / baseline.mean()
        distance = np.linalg.norm(predicted - self.points, axis=-1)
        nme = (distance * self.counts).sum(1)[scored]
        mean, half = confidence_interval(nme / self.counts.sum(1)[scored])

        # For permutations, keypoints that do not count are at their mean, so
        # that one fit serves all keypoints and permutations.
        sums = (self.points * self.counts[..., None]).sum(0)
        means = sums / np.maximum(self.counts.sum(0), 1)[:, None]
        filled = np.where(self.counts[..., None], self.points, means)
        filled = filled.reshape(len(filled), 1, -1)
        ridges = [
            LeaveOneOutRidge(rows, penalty=self.penalty)
            for rows in (features, empty)
        ]

        def r2(targets: np.ndarray) -> float:
            error, baseline = (
                ((ridge.predict(targets) - targets) ** 2).sum()
                for ridge in ridges
            )
            return 1 - error / baseline

        null = [r2(filled[order]) for order in self.permutations(len(filled))]
        score = -mean, -mean - half, min(0.0, -mean + half)
        return Measurement(skill, score, r2(filled), np.array(null), True)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return N x K x 2 coordinates, 0 where a keypoint does not count.

        Args:
            features: N x 1 x D.
        """
        predicted = np.zeros_like(self.points)
        for rows, keypoints in self._groups():
            targets = self.points[np.ix_(rows, keypoints)]
            flat = targets.reshape(len(rows), 1, -1)
            ridge = LeaveOneOutRidge(features[rows], penalty=self.penalty)
            predicted[np.ix_(rows, keypoints)] = ridge.predict(flat).reshape(
                targets.shape
            )
        return predicted

    def _groups(self) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield keypoints that count in the same images, with the images."""
        patterns, groups = np.unique(self.counts, axis=1, return_inverse=True)
        for group, images in enumerate(patterns.T):
            if images.any():
                keypoints = np.flatnonzero(groups.ravel() == group)
                yield np.flatnonzero(images), keypoints

    def _errors(self, predicted: np.ndarray) -> np.ndarray:
        """Return the mean squared distance of each image's keypoints."""
        squares = ((predicted - self.points) ** 2).sum(-1) * self.counts
        return squares.sum(1) / np.maximum(self.counts.sum(1), 1)
