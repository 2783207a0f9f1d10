"""The runs behind evidence.py: distil a student, finetune it, score it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(ROOT / 'tools'),
    str(ROOT),
]

from evidence_methods import METHODS  # noqa: E402

from projects.digits.prepare_data import (  # noqa: E402
    take_balanced,
    write_digits,
    write_lines,
)
from repfusion_mm.analysis.probe import (  # noqa: E402
    Prober,
    best_curve,
    find_good_range,
    mean_curves,
)
from repfusion_mm.cli.config import load_config, make_parser  # noqa: E402
from repfusion_mm.cli.train import build_runner  # noqa: E402
from repfusion_mm.visualization.policy_log import (  # noqa: E402
    moments,
    read_records,
)

DISTILL = str(ROOT / 'configs/distill/repfusion_r18_digits.py')
FINETUNE = str(ROOT / 'configs/finetune/mmpretrain/resnet18-{}_digits.py')
TEACHER = f'model.teacher.pretrained={ROOT / "projects/digits/ddpm_digits"}'
DATA = Path('data/digits')
#: All training images have a label.
ALL = 1297
GRID = (*range(0, 1000, 50), 999)
FINETUNE_ITERS = {ALL: 400}


class Score(NamedTuple):
    """The test accuracy of one student.

    Attributes:
        timestep: What it was taught at; the mean of pi at the end, if learned.
    """

    method: str
    num_labels: int
    padding: int
    seed: int
    accuracy: float
    timestep: Optional[float]

    @classmethod
    def read(cls, row: List[str]) -> Score:
        method, num_labels, padding, seed, accuracy, timestep = row
        return cls(
            method, int(num_labels), int(padding), int(seed), float(accuracy),
            float(timestep) if timestep else None,
        )  # fmt: skip


@dataclass
class Site:
    """Where the runs are, and what they share.

    Attributes:
        best: For each number of labels, the timestep at which a linear probe
            of the teacher is best. The probe sees the labels of all training
            images, which no student does.
    """

    out: Path
    budgets: List[int]
    paddings: List[int]
    best: Dict[int, int]

    @classmethod
    def prepare(
        cls, out: Path, budgets: List[int], paddings: List[int], seeds: int
    ) -> Site:
        """Write the images, the lists of labels, and probe the teacher."""
        write_digits(DATA)
        lines = (DATA / 'train.txt').read_text().splitlines()
        site = cls(out.resolve(), budgets, paddings, {})
        (site.out / 'labels').mkdir(exist_ok=True)
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(lines))
            shuffled = [lines[i] for i in order]
            for n in set(budgets) - {ALL}:
                chosen = take_balanced(shuffled, n)
                if len(chosen) != n:
                    raise ValueError(
                        'expected numbers of labels that are multiples of 10 '
                        f'or {ALL}, got {n}'
                    )
                write_lines(site.labels(n, seed), chosen)
        site.best = site.probe()
        return site

    def probe(self) -> Dict[int, int]:
        """Return the best timesteps, from an earlier call where they are."""
        path = self.out / 'best.json'
        best = json.loads(path.read_text()) if path.exists() else {}
        best = {int(n): t for n, t in best.items()}
        due = [n for n in self.budgets if n not in best]
        if due:
            best.update(probe(due))
            path.write_text(json.dumps(best) + '\n')
        return best

    def labels(self, num_labels: int, seed: int) -> Path:
        """Return the list of the images that have a label."""
        if num_labels == ALL:
            return (DATA / 'train.txt').resolve()
        return self.out / 'labels' / f'{num_labels}_{seed}.txt'


def probe(budgets: List[int]) -> Dict[int, int]:
    """Return the best timestep for each number of labels."""
    argv = [DISTILL, '--cfg-options', TEACHER]
    cfg = load_config(make_parser('').parse_args(argv))
    # Some images must be left to score on.
    sizes = {n: min(n, ALL - 297) for n in budgets}
    prober = Prober(cfg, sorted(set(sizes.values())), num_splits=10)
    scores = [score for t in GRID for score in prober.run(t, 'clean')]
    return {
        n: find_good_range(best_curve(mean_curves(scores), size)[2])[0]
        for n, size in sizes.items()
    }


def start_worker(num_threads: int, out: Path) -> None:
    """Send what the runs say to a file, and share the processor."""
    import torch

    torch.set_num_threads(num_threads)
    log = (out / f'log_{os.getpid()}.txt').open('w')
    sys.stdout = sys.stderr = log


def run_unit(
    site: Site, method: str, seed: int, due: List[Tuple[int, int]]
) -> List[Score]:
    """Distil and finetune one method's students of one seed.

    Args:
        site: What the runs share.
        method: A key of METHODS.
        seed: Of labels, student, policy and finetuning.
        due: Numbers of labels and paddings to score.
    """
    scores = []
    for num_labels, padding in due:
        student, timestep = distil(site, method, num_labels, seed)
        accuracy = finetune(site, student, num_labels, padding, seed)
        scores.append(
            Score(method, num_labels, padding, seed, accuracy, timestep)
        )
    return scores


def distil(
    site: Site, method: str, num_labels: int, seed: int
) -> Tuple[Optional[Path], Optional[float]]:
    """Return a student, and the timestep that it was taught at."""
    _, options, reads_labels, probed = METHODS[method]
    if options is None:
        return None, None
    options = list(options)
    labels, name, timestep = ALL, f'{method}_{seed}', None
    if reads_labels:
        labels, name = num_labels, f'{method}_{seed}_{num_labels}'
    if probed:
        timestep = float(site.best[num_labels])
        options.append(f'model.policy.timestep={site.best[num_labels]}')
        name += f'_t{site.best[num_labels]}'
    folder = site.out / 'distill' / name
    if not folder.exists():
        options += [
            TEACHER,
            f'randomness.seed={seed}',
            'default_hooks.checkpoint.max_keep_ckpts=1',
            'train_dataloader.dataset.datasets.0.ann_file='
            f'{site.labels(labels, seed)}',
        ]
        unfinished = folder.with_name(name + '.part')
        shutil.rmtree(unfinished, ignore_errors=True)
        argv = [DISTILL, '--work-dir', str(unfinished), '--cfg-options']
        build_runner([*argv, *options]).train()
        for checkpoint in unfinished.glob('epoch_*.pth'):
            checkpoint.unlink()
        unfinished.replace(folder)
    if reads_labels:
        timestep, _ = moments(read_records(str(folder))[-1])
    return folder / 'student.pth', timestep


def finetune(
    site: Site,
    student: Optional[Path],
    num_labels: int,
    padding: int,
    seed: int,
) -> float:
    """Return the test accuracy, in [0, 1], after finetuning."""
    iters = FINETUNE_ITERS.get(num_labels, 200)
    options = [
        f'randomness.seed={seed}',
        'default_hooks.checkpoint=None',
        f'train_cfg.max_iters={iters}',
        f'train_cfg.val_interval={iters}',
        f'train_dataloader.dataset.pipeline.1.padding={padding}',
        f'train_dataloader.dataset.ann_file={site.labels(num_labels, seed)}',
    ]
    if student is not None:
        options.append(f'model.backbone.init_cfg.checkpoint={student}')
    folder = site.out / 'finetune' / f'{os.getpid()}'
    config = FINETUNE.format('scratch' if student is None else 'repfusion')
    runner = build_runner(
        [config, '--work-dir', str(folder), '--cfg-options', *options]
    )
    runner.train()
    shutil.rmtree(folder)
    accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    return round(float(accuracy) / 100, 4)
