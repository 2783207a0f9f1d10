"""Compare ways to pretrain a ResNet-18 on digits, at several label budgets.

    python -m projects.digits.study

Each seed draws its own labeled images and trains its own students, which are
scored on the 500 test digits. Finetuning shifts the images by up to a pixel.
A second call resumes an interrupted one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

from projects.digits import prepare_data, runs
from projects.study.command import run_study
from projects.study.labels import draw_balanced
from projects.study.methods import METHODS, OTHER_LOSSES
from projects.study.scores import ALL
from projects.study.study import Study


class DigitsStudy(Study):
    """Handwritten digits: classes."""

    name = 'digits'
    folder = Path(__file__).resolve().parent
    title = 'ResNet-18 on digits'
    all_labels = runs.DATA / 'train.txt'
    distill_config = runs.DISTILL
    finetune_config = runs.FINETUNE
    finetune_options = (f'{runs.LABELED}.pipeline.1.padding=1',)
    metric = 'val/accuracy/top1'
    metric_scale = 0.01
    score_name = 'accuracy'
    num_iters = {20: 200, 50: 200, 100: 200, ALL: 400}
    methods = dict(METHODS, **OTHER_LOSSES)

    def prepare(self) -> None:
        """Write the digits."""
        prepare_data.write_digits(runs.DATA)

    def write_labels(self, path: Path, num_labels: int, seed: int) -> None:
        """Draw equally many images of each class."""
        draw_balanced(self.all_labels, path, num_labels, seed)


def main(argv: Optional[List[str]] = None) -> int:
    return run_study(DigitsStudy, argv)


if __name__ == '__main__':
    sys.exit(main())
