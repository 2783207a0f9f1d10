"""Compare ways to pretrain a ResNet-18 on faces, at several label budgets.

    python -m projects.faces.study

Each seed draws its own labeled faces and trains its own students, which are
scored on the faces of other persons. A second call resumes an interrupted one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import List, Optional

import numpy as np

from projects.study.command import run_study
from projects.study.methods import CLAIMS
from projects.study.scores import ALL
from projects.study.study import Study, check_size

FOLDER = Path(__file__).resolve().parent


class FacesStudy(Study):
    """Faces: key points."""

    name = 'faces'
    folder = FOLDER
    title = 'ResNet-18 on faces'
    all_labels = Path('data/facial_keypoints/annotations/train.json')
    distill_config = FOLDER / 'configs/repfusion_resnet18_faces.py'
    finetune_config = str(FOLDER / 'configs/td-hm_r18-{}_faces.py')
    metric = 'val/NME'
    score_name = 'NME'
    is_error = True
    claims = tuple(
        claim._replace(
            text='learned t is at most 0.2 points worse than t of the probe',
            margin=-0.002,
        )
        if claim.margin
        else claim
        for claim in CLAIMS
    )
    num_iters = {20: 200, 100: 400, ALL: 800}

    def prepare(self) -> None:
        """Check the annotations and the size of the faces."""
        super().prepare()
        content = json.loads(self.all_labels.read_text(encoding='utf-8'))
        name = content['images'][0]['file_name']
        check_size(
            self.all_labels.parents[1] / 'images' / name, 80, 80,
            'tools/dataset_converters/facial_keypoints.py with --size 80',
        )  # fmt: skip

    def write_labels(self, path: Path, num_labels: int, seed: int) -> None:
        """Draw faces."""
        content = json.loads(self.all_labels.read_text(encoding='utf-8'))
        faces = content['annotations']
        order = np.random.default_rng(seed).permutation(len(faces))
        content['annotations'] = [faces[i] for i in order[:num_labels]]
        drawn = {face['image_id'] for face in content['annotations']}
        content['images'] = [i for i in content['images'] if i['id'] in drawn]
        path.write_text(json.dumps(content), encoding='utf-8')


def main(argv: Optional[List[str]] = None) -> int:
    return run_study(FacesStudy, argv)


if __name__ == '__main__':
    sys.exit(main())
