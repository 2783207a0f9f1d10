"""Check what a probe of few labels says against the labels of all digits.

    python -m projects.digits.probe_study

For 20, 50 and 100 labels, drawn 50 times each, a probe selects a timestep and
states the accuracy of its linear model with an interval. Both are compared
with the other training images: the accuracy of the same linear model there,
and the accuracy of a logistic regression at the selected timestep relative to
that at the best one (both averaged over draws), the regret.

For each kind of label, 20 labels that are permuted at random are probed too: a
digit's class, the mask of its strokes, and keypoints (the corners of its box
and its center of mass).
"""

from __future__ import annotations

import argparse
import sys
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
import torch

from projects.digits import prepare_data, runs
from repfusion_mm.analysis.probe.results import find_best
from repfusion_mm.analysis.probe.tasks.base import Task
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask
from repfusion_mm.analysis.probe.tasks.masks import MaskTask
from repfusion_mm.analysis.probe.tasks.ridge import (
    LeaveOneOutRidge,
    standardize,
)
from repfusion_mm.analysis.probe.verdict import is_informative
from repfusion_mm.cli import report_errors
from repfusion_mm.cli.argument_types import positive_int
from repfusion_mm.cli.config import enable_safe_loading
from repfusion_mm.models.losses.utils import pool

NUM_CLASSES = 10


class Digits:
    """The teacher's maps of all training digits at the probed timesteps."""

    def __init__(self) -> None:
        prober = runs.make_prober('train.txt', max_images=2000)
        (self.grid,) = prober.grids.values()
        self.labels = np.array(prober.targets)
        images = torch.cat(prober.batches)
        self.strokes = images[:, 0].numpy() > 0.4
        self.maps = []
        with torch.no_grad():
            for t in runs.PROBE_GRID:
                parts = [
                    prober.teacher(images, torch.full((len(images),), t))
                    for images in prober.batches
                ]
                layer = next(iter(prober.grids))
                self.maps.append(torch.cat([part[layer] for part in parts]))
        pooled = [pool(maps) for maps in self.maps]
        self.pooled = torch.stack(pooled, dim=1).numpy()  # N x T x C

    def draw(self, num_labels: int, draws: int) -> Iterator[np.ndarray]:
        """Yield the indices of as many images of each class."""
        rng = np.random.default_rng(0)
        each = num_labels // NUM_CLASSES
        for _ in range(draws):
            yield np.concatenate([
                rng.permutation(np.flatnonzero(self.labels == label))[:each]
                for label in range(NUM_CLASSES)
            ])  # fmt: skip

    def features(self, task: Task, images: np.ndarray) -> np.ndarray:
        """Return the N x T x R x D features of a task."""
        return np.stack([
            task.finish(task.rows(maps[images], 0).numpy())
            for maps in self.maps
        ], axis=1)  # fmt: skip

    def split(self, num_labels: int, draws: int = 10) -> List[np.ndarray]:
        """Return random images, with classes in proportion to all images."""
        from sklearn.model_selection import StratifiedShuffleSplit

        splitter = StratifiedShuffleSplit(
            draws, train_size=num_labels, random_state=0
        )
        return [rows for rows, _ in splitter.split(self.labels, self.labels)]

    def accuracy_curve(self, draws: Sequence[np.ndarray]) -> np.ndarray:
        """Return the accuracy of a logistic regression at each timestep.

        Args:
            draws: The images to fit to; all others are scored. The accuracy
                is the mean over the draws.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        scores = np.zeros((len(draws), len(self.maps)))
        for i, images in enumerate(draws):
            rest = np.setdiff1d(np.arange(len(self.labels)), images)
            for t in range(len(self.maps)):
                model = make_pipeline(
                    StandardScaler(), LogisticRegression(max_iter=1000)
                )
                model.fit(self.pooled[images, t], self.labels[images])
                scores[i, t] = model.score(
                    self.pooled[rest, t], self.labels[rest]
                )
        return scores.mean(0)

    def test_accuracy(self, images: np.ndarray, best: int) -> float:
        """Fit the probe's linear model to images; score all others.

        Args:
            images: The images to fit to.
            best: Index of the timestep at which the others are scored.
        """
        counts = np.zeros(self.pooled.shape[:2], dtype=bool)
        counts[images] = True
        scaled = standardize(self.pooled, counts)
        targets = np.eye(NUM_CLASSES)[self.labels[images]][:, None]
        targets = np.repeat(targets, self.pooled.shape[1], axis=1)
        ridge = LeaveOneOutRidge(scaled[images], penalty=ClassTask.penalty)
        rest = np.setdiff1d(np.arange(len(self.labels)), images)
        predicted = ridge.predict_others(scaled[rest, best], targets)
        return float((predicted.argmax(-1) == self.labels[rest]).mean())

    def targets(self) -> Dict[type, List[np.ndarray]]:
        """Return all labels of each kind."""
        keypoints = []
        for strokes in self.strokes:
            y, x = np.nonzero(strokes)
            points = [(x.min(), y.min()), (x.max(), y.max())]
            points.append((x.mean(), y.mean()))
            array = np.ones((3, 3), np.float32)
            array[:, :2] = np.array(points) / strokes.shape[0]
            keypoints.append(array)
        return {
            ClassTask: [*self.labels],
            MaskTask: [*self.strokes.astype(np.int16)],
            KeypointTask: keypoints,
        }


def study(digits: Digits, num_labels: int, num_draws: int) -> str:
    """Return a line of the table for one number of labels."""
    draws = [*digits.draw(num_labels, num_draws)]
    curve = digits.accuracy_curve(draws[:10])
    regrets, stated, tested, covered = [], [], [], 0
    for images in draws:
        task = ClassTask([*digits.labels[images]])
        features = digits.features(task, images)
        measured = dict(enumerate(task.measure(features, digits.grid)))
        best = find_best(measured)
        score, low, high = measured[best].score
        truth = digits.test_accuracy(images, best)
        regrets.append(100 * (curve.max() - curve[best]))
        stated.append(score)
        tested.append(truth)
        covered += low <= truth <= high
    return (
        f'| {num_labels} | {np.mean(regrets):.2f} ({max(regrets):.1f}) | '
        f'{np.mean(stated):.3f} | {np.mean(tested):.3f} | '
        f'{covered} of {len(draws)} |'
    )


def study_permuted(digits: Digits, kind: type, num_draws: int) -> str:
    """Count the draws of 20 labels about which the teacher says nothing."""
    rng = np.random.default_rng(1)
    all_targets, silent = digits.targets()[kind], dict(drawn=0, permuted=0)
    for images in digits.draw(20, num_draws):
        for how in silent:
            order = images if how == 'drawn' else rng.permutation(images)
            task = kind([all_targets[i] for i in order])
            features = digits.features(task, images)
            measured = dict(enumerate(task.measure(features, digits.grid)))
            silent[how] += not is_informative(measured)
    counts = ' | '.join(f'{n} of {num_draws}' for n in silent.values())
    return f'| {kind.__name__} | {counts} |'


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--draws', type=positive_int, default=50)
    parser.add_argument('--permutations', type=positive_int, default=20)
    args = parser.parse_args(argv)
    with report_errors():
        enable_safe_loading()
        prepare_data.write_digits(runs.DATA)
        digits = Digits()
        print(
            '| labels | regret in points (worst) | stated accuracy | '
            'test accuracy | within the interval |\n|---|---|---|---|---|'
        )
        for num_labels in prepare_data.BUDGETS:
            print(study(digits, num_labels, args.draws), flush=True)
        print(
            '\n| 20 labels | "says nothing" | permuted: "says nothing" |\n'
            '|---|---|---|'
        )
        for kind in digits.targets():
            print(study_permuted(digits, kind, args.permutations), flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
