"""Compare ways to pretrain a ResNet-18 on CIFAR-10, at several label budgets.

    python -m projects.cifar10.study

Each seed draws its own labeled images and trains its own students, which are
scored on the 10,000 test images. A second call resumes an interrupted one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

from projects.study.command import run_study
from projects.study.labels import draw_balanced
from projects.study.methods import CLAIMS, METHODS, OTHER_LOSSES, Claim, Method
from projects.study.scores import ALL
from projects.study.study import Study

FOLDER = Path(__file__).resolve().parent


class Cifar10Study(Study):
    """CIFAR-10: classes."""

    name = 'cifar10'
    folder = FOLDER
    title = 'ResNet-18 on CIFAR-10'
    all_labels = Path('data/cifar10_images/train.txt')
    distill_config = FOLDER / 'configs/repfusion_resnet18_cifar10-images.py'
    finetune_config = str(FOLDER / 'configs/resnet18-{}_cifar10-images.py')
    metric = 'val/accuracy/top1'
    metric_scale = 0.01
    score_name = 'accuracy'
    num_iters = {100: 200, 500: 400, 2000: 800, ALL: 2000}
    methods = dict(
        METHODS,
        **OTHER_LOSSES,
        selfsup=Method(
            'SimSiam',
            config=FOLDER / 'configs/simsiam_resnet18_cifar10-images.py',
            prefix='backbone.',
        ),
    )
    claims = (
        *CLAIMS,
        Claim('t of the probe > SimSiam', 'fixed_best', 'selfsup'),
        Claim('learned t > SimSiam', 'learned', 'selfsup'),
    )

    def write_labels(self, path: Path, num_labels: int, seed: int) -> None:
        """Draw equally many images of each class."""
        draw_balanced(self.all_labels, path, num_labels, seed)


def main(argv: Optional[List[str]] = None) -> int:
    return run_study(Cifar10Study, argv)


if __name__ == '__main__':
    sys.exit(main())
