"""Predict the mean of the labeled faces, whatever the image.

    python -m projects.faces.mean_face

This is the score that needs no network: what a student has learned from the
images is the difference from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

import numpy as np
from mmengine.config import Config
from mmpose.evaluation.functional import keypoint_nme

from projects.faces.study import FacesStudy
from repfusion_mm.cli import report_errors

SEEDS = range(3)


def read_points(path: Path) -> np.ndarray:
    """Return the N x 68 x 2 points in the crops, which have one size."""
    faces = json.loads(path.read_text(encoding='utf-8'))['annotations']
    points = np.array([face['keypoints'] for face in faces])
    return points.reshape(len(faces), -1, 3)[..., :2]


def score(labels: Path, study: FacesStudy) -> float:
    """Return the NME, a fraction, of the mean of a list of labeled faces."""
    truth = read_points(study.lists[1])
    mean = read_points(labels).mean(axis=0, keepdims=True)
    config = Config.fromfile(study.finetune_config.format('scratch'))
    first, second = config.val_evaluator.keypoint_indices
    sizes = np.linalg.norm(truth[:, first] - truth[:, second], axis=1)
    return keypoint_nme(
        np.broadcast_to(mean, truth.shape),
        truth,
        np.ones(truth.shape[:2], dtype=bool),
        np.stack([sizes, sizes], axis=1),
    )


def main(argv: Optional[List[str]] = None) -> int:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    with report_errors(), tempfile.TemporaryDirectory() as folder:
        study = FacesStudy(Path(folder))
        study.prepare()
        for num_labels in study.num_iters:
            errors = [score(study.labels(num_labels, i), study) for i in SEEDS]
            text = ', '.join(f'{error:.1%}' for error in errors)
            print(f'{num_labels} labels, seeds 0 to 2: NME {text}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
