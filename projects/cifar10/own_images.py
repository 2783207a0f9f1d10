"""Score what distill_folder.py makes of 2,000 photographs with 100 labels.

    python -m projects.cifar10.own_images --amp

Each seed copies 2,000 training images of CIFAR-10 into a folder, of which 100
are labeled, distills the shipped teacher on them with one call of
tools/distill_folder.py, and finetunes the student on the 100 labels. If the
probe says that the teacher is not worth it, the student is trained from
scratch. The scores are those of the 10,000 test images.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
from mmengine.config import Config

from projects.cifar10.study import Cifar10Study
from projects.study.command import run_study
from projects.study.labels import write_lines
from projects.study.methods import Claim, Method
from projects.study.scores import NumLabels
from repfusion_mm.own_images.command import parse_args
from repfusion_mm.own_images.job import run

NUM_IMAGES = 2000
#: Mean and std of ImageNet, for distillation and finetuning. The command takes
#: those of the project by default.
PIXELS = (
    'data_preprocessor.mean=[123.675,116.28,103.53]',
    'data_preprocessor.std=[58.395,57.12,57.375]',
)


class OwnImagesStudy(Cifar10Study):
    """Photographs of one's own, few of which are labeled."""

    name = 'cifar10_own_images'
    title = f'{NUM_IMAGES} photographs, 100 labels'
    num_iters = {100: 200}
    finetune_options = PIXELS
    methods = dict(
        scratch=Method('from scratch', None),
        command=Method('distill_folder.py'),
    )
    claims = (Claim('distill_folder.py > from scratch', 'command', 'scratch'),)

    def pretrain(
        self, name: str, num_labels: NumLabels, seed: int
    ) -> Tuple[Optional[Path], Optional[float]]:
        """Return the student and the timestep that the command selected."""
        if name == 'scratch':
            return None, None
        folder = self.copy_images(num_labels, seed)
        work_dir = self.out / 'pretrain' / folder.name
        # Runs of one process need different names.
        run_name = f'{self.name}_{folder.name}'
        argv = [
            str(folder), '--labels', str(folder / 'labels.txt'),
            '--teacher', str(self.folder / 'ddpm_cifar10'),
            '--student', self.finetune_config.format('scratch'),
            '--work-dir', str(work_dir), '--resume', *['--amp'] * self.amp,
            '--cfg-options', f'randomness.seed={seed}',
            *(f'model.{option}' for option in PIXELS),
            f'experiment_name={run_name}', f'visualizer.name={run_name}',
        ]  # fmt: skip
        with self.measure('distill_folder.py', folder.name) as cost:
            status = run(parse_args(argv), argv)
            cfg = Config.fromfile(work_dir / 'distill.py')
            if status:
                return None, None
            epochs = cfg.train_cfg.max_epochs
            batches = NUM_IMAGES // cfg.train_dataloader.batch_size
            cost['iterations'] = epochs * batches
        return work_dir / 'student.pth', cfg.model.policy.timestep

    def copy_images(self, num_labels: NumLabels, seed: int) -> Path:
        """Return a new folder of images with a list of the labeled ones."""
        folder = self.out / 'images' / f'{num_labels}_{seed}'
        shutil.rmtree(folder, ignore_errors=True)
        lines, everything = (
            path.read_text(encoding='utf-8').splitlines()
            for path in (self.labels(num_labels, seed), self.all_labels)
        )
        labeled = [line.split()[0] for line in lines]
        others = sorted({line.split()[0] for line in everything} - {*labeled})
        chosen = np.random.default_rng(seed).permutation(others)
        for name in [*labeled, *chosen[: NUM_IMAGES - len(labeled)]]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.all_labels.parent / name, path)
        write_lines(folder / 'labels.txt', lines)
        return folder


def main(argv: Optional[List[str]] = None) -> int:
    return run_study(OwnImagesStudy, argv)


if __name__ == '__main__':
    sys.exit(main())
