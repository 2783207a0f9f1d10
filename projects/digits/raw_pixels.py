"""Classify the digits by raw pixels, which needs neither network nor teacher.

    python -m projects.digits.raw_pixels

A logistic regression is fitted to the labeled images of the demo, and to those
of each seed of the study.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import List, Optional, Tuple

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression

from projects.digits import runs
from projects.digits.prepare_data import BUDGETS, write_digits
from projects.digits.study import DigitsStudy
from projects.study.scores import ALL
from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.cli import report_errors

SEEDS = range(5)


def score(labels: Path) -> float:
    """Return the test accuracy, a fraction, of a list of labeled images."""
    model = LogisticRegression(max_iter=1000)
    model.fit(*read(labels, runs.DATA / 'train'))
    test = read(runs.DATA / 'test.txt', runs.DATA / 'test')
    return float(model.score(*test))


def read(labels: Path, folder: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Return N x 256 pixels in [0, 1] and N classes of a list."""
    lines = labels.read_text(encoding='utf-8').splitlines()
    names, classes = zip(*(line.split() for line in lines))
    images = [
        cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in names
    ]
    return np.stack(images).reshape(len(images), -1) / 255, np.array(classes)


def main(argv: Optional[List[str]] = None) -> int:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    with report_errors(), tempfile.TemporaryDirectory() as folder:
        write_digits(runs.DATA)
        for budget in BUDGETS:
            accuracy = score(runs.DATA / f'train_{budget}.txt')
            print(f'demo, {budget} labels: {accuracy:.3f}')
        study = DigitsStudy(Path(folder))
        for num_labels in (*BUDGETS, ALL):
            scores = [score(study.labels(num_labels, seed)) for seed in SEEDS]
            mean, margin = confidence_interval(np.multiply(scores, 100))
            print(f'study, {num_labels} labels: {mean:.1f} ± {margin:.1f}%')
    return 0


if __name__ == '__main__':
    sys.exit(main())
