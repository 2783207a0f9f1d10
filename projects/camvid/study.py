"""Compare ways to pretrain a ResNet-18 on CamVid, at several label budgets.

    python -m projects.camvid.study

Each seed draws its own labeled frames and trains its own students, which are
scored on the 233 test frames. A second call resumes an interrupted one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

import numpy as np

from projects.study.command import run_study
from projects.study.labels import write_lines
from projects.study.methods import CLAIMS, FIXED, METHODS, PROBE, Claim, Method
from projects.study.scores import ALL
from projects.study.study import Study, check_size

FOLDER = Path(__file__).resolve().parent


class CamvidStudy(Study):
    """CamVid: masks."""

    name = 'camvid'
    folder = FOLDER
    title = 'ResNet-18 on CamVid'
    all_labels = Path('data/camvid/train.txt')
    distill_config = FOLDER / 'configs/repfusion_resnet18_camvid.py'
    finetune_config = str(FOLDER / 'configs/fcn_r18-{}_camvid.py')
    metric = 'val/mIoU'
    metric_scale = 0.01
    score_name = 'mIoU'
    num_iters = {10: 200, 40: 300, ALL: 600}
    methods = dict(
        METHODS,
        pyramid=Method(
            't of the probe, feature pyramid',
            FIXED,
            PROBE,
            config=FOLDER / 'configs/repfusion-pyramid_resnet18_camvid.py',
        ),
    )
    claims = (
        *CLAIMS,
        Claim(
            'feature pyramid > one layer, both at t of the probe',
            'pyramid',
            'fixed_best',
        ),
    )

    def prepare(self) -> None:
        """Check the lists and the size of the frames."""
        super().prepare()
        name = self.all_labels.read_text(encoding='utf-8').split()[0]
        check_size(
            self.all_labels.parent / f'images/train/{name}.png', 128, 96,
            'tools/dataset_converters/camvid.py with --width 128',
        )  # fmt: skip

    def write_labels(self, path: Path, num_labels: int, seed: int) -> None:
        """Draw frames."""
        frames = self.all_labels.read_text(encoding='utf-8').splitlines()
        drawn = np.random.default_rng(seed).permutation(frames)[:num_labels]
        write_lines(path, sorted(drawn))


def main(argv: Optional[List[str]] = None) -> int:
    return run_study(CamvidStudy, argv)


if __name__ == '__main__':
    sys.exit(main())
