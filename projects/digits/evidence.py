"""Compare ways to distill on the digits, at several numbers of labels.

    python -m projects.digits.evidence --seeds 10 --workers 2

Each seed draws its own labeled images and trains its own students, which are
scored on the 500 test digits. --out receives scores.csv with every score,
evidence.md with means, 95% intervals and claims. A second call resumes an
interrupted one. With --csv, nothing is trained: the tables of an earlier study
are written again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from projects.digits import prepare_data, runs, tables
from projects.digits.probe_study import Digits
from projects.digits.tables import ALL, Score
from repfusion_mm.analysis.probe import find_best
from repfusion_mm.cli import enable_safe_loading, report_errors
from repfusion_mm.cli.argument_types import positive
from repfusion_mm.visualization.policy_log import moments, read_records

POLICY = ['model.decoder=None', 'model.policy._delete_=True']
FIXED = [*POLICY, 'model.policy.type=repfusion_mm.FixedTimestepPolicy']
OTHER_LOSS = [
    *FIXED,
    'model.policy.timestep=250',
    'model.distill_loss._delete_=True',
    'model.normalizer=none',
    # The learning rate of the config is tuned for its own loss.
    'optim_wrapper.student.optimizer.lr=0.1',
]


class Method(NamedTuple):
    """A way to obtain a student.

    Attributes:
        title: Name in tables.
        options: Changes to the config of the distillation; None without a
            distillation.
        reads_labels: Whether the distillation reads the labels: it trains one
            student per number of labels, and draws half of each batch from
            the labeled images. Other methods draw from all images.
        probed: ``'all'``: it uses the timestep of the best linear classifier
            of all training labels, which no student sees. ``'own'``: that of
            the probe of the same labels as the student's.
        is_latent: Whether the teacher works on latents. It is not shipped.
    """

    title: str
    options: Optional[Sequence[str]]
    reads_labels: bool = False
    probed: str = ''
    is_latent: bool = False


METHODS: Dict[str, Method] = dict(
    scratch=Method('from scratch', None),
    fixed_first=Method('t = 0', [*FIXED, 'model.policy.timestep=0']),
    fixed_last=Method('t = 999', [*FIXED, 'model.policy.timestep=999']),
    uniform=Method(
        'uniform t',
        [*POLICY, 'model.policy.type=repfusion_mm.UniformTimestepPolicy'],
    ),
    fixed_best=Method('t of the best probe', FIXED, probed='all'),
    fixed_probe=Method(
        't of the probe of the same labels', FIXED, probed='own'
    ),
    learned=Method('learned t (RepFusion)', [], reads_labels=True),
    noised=Method(
        'learned t, noised input', ['model.teacher.input_mode=noised'], True
    ),
    at=Method(
        't = 250, AT',
        [*OTHER_LOSS,
         'model.distill_loss.type=repfusion_mm.AttentionTransferLoss'],
    ),
    rkd=Method(
        't = 250, RKD',
        [*OTHER_LOSS, 'model.distill_loss.type=repfusion_mm.RelationalLoss'],
    ),
    fixed_same_draws=Method(
        't of the best probe, half-labeled batches (as for learned t)',
        FIXED, reads_labels=True, probed='all',
    ),
    latent=Method('learned t, latent teacher', [], True, is_latent=True),
)  # fmt: skip
#: Methods that were no better and are not in the code.
REMOVED = dict(
    learned_prior='learned t, started from the probe of the same labels',
    learned_marginal='learned t, without the image as input',
    learned_ridge='learned t, rewarded by the probe of the same labels',
    learned_pairs='learned t, two draws for each image',
)
#: The methods whose teacher is shipped.
SHIPPED = [name for name, method in METHODS.items() if not method.is_latent]


@dataclass
class Study:
    """What all runs share.

    Attributes:
        out: Absolute path of the output folder.
        budgets: Numbers of labeled images.
        paddings: Largest shifts during finetuning, in pixels.
        best: Timestep of the highest accuracy of a linear classifier, by
            number of labels. It is scored on the labels of the other
            training images, which no student sees.
    """

    out: Path
    budgets: List[int]
    paddings: List[int]
    best: Dict[int, int] = field(default_factory=dict)

    def write_labels(self, seed: int) -> None:
        """Write the lists of labeled images.

        Raises:
            ValueError: A number of labels cannot be balanced.
        """
        lines = (
            (runs.DATA / 'train.txt').read_text(encoding='utf-8').splitlines()
        )
        shuffled = np.random.default_rng(seed).permutation(lines).tolist()
        for n in set(self.budgets) - {ALL}:
            chosen = prepare_data.take_balanced(shuffled, n)
            if len(chosen) != n:
                raise ValueError(
                    f'expected --num-labels that are multiples of 10 or {ALL},'
                    f' got {n}'
                )
            prepare_data.write_lines(self.labels(n, seed), chosen)

    def labels(self, num_labels: int, seed: int) -> Path:
        """Return the list of the labeled images."""
        if num_labels == ALL:
            return (runs.DATA / 'train.txt').resolve()
        return self.out / f'labels_{num_labels}_{seed}.txt'

    def probe(self) -> None:
        """Find the best timesteps, unless an earlier call did."""
        path = self.out / 'best.json'
        known = (
            json.loads(path.read_text(encoding='utf-8'))
            if path.exists()
            else {}
        )
        self.best = {int(n): t for n, t in known.items()}
        # With all labels, some images are kept for scoring.
        sizes = {n: min(n, 1000) for n in self.budgets if n not in self.best}
        if sizes:
            digits = Digits()
            for n, size in sizes.items():
                curve = digits.accuracy_curve(digits.split(size))
                self.best[n] = runs.PROBE_GRID[curve.argmax()]
            path.write_text(json.dumps(self.best) + '\n', encoding='utf-8')

    def timestep(self, method: Method, num_labels: int, seed: int) -> int:
        """Return the timestep of a method that is probed."""
        if method.probed == 'all':
            return self.best[num_labels]
        prober = runs.make_prober(self.labels(num_labels, seed))
        folder = self.out / 'probe' / f'{num_labels}_{seed}'
        measured = prober.probe([*runs.PROBE_GRID], ['clean'], folder)
        return find_best(measured)[2]

    def score(
        self, method: str, seed: int, settings: List[Tuple[int, int]]
    ) -> List[Score]:
        """Distill and finetune the students of one method and seed.

        Args:
            method: A key of METHODS.
            seed: Seed of labels, student, policy and finetuning.
            settings: Pairs (number of labels, padding) to score.
        """
        scores = []
        folder = self.out / 'finetune' / f'{method}_{seed}'
        for n, padding in settings:
            student, timestep = self.distill(method, n, seed)
            num_iters = 400 if n == ALL else 200
            options = [
                'default_hooks.checkpoint=None',
                f'train_cfg.max_iters={num_iters}',
                f'train_cfg.val_interval={num_iters}',
            ]
            labels = self.labels(n, seed)
            accuracy = runs.finetune(
                folder, labels, student, seed, padding, options
            )
            shutil.rmtree(folder)
            scores.append(Score(method, n, padding, seed, accuracy, timestep))
        return scores

    def distill(
        self, name: str, num_labels: int, seed: int
    ) -> Tuple[Optional[Path], Optional[float]]:
        """Return the student's file and the (mean) timestep of its teacher."""
        method = METHODS[name]
        if method.options is None:
            return None, None
        options = [*method.options, f'randomness.seed={seed}']
        labels, timestep = ALL, None
        folder = self.out / 'distill' / f'{name}_{seed}'
        if method.reads_labels:
            labels = num_labels
            folder = folder.with_name(f'{folder.name}_{labels}')
        if method.probed:
            timestep = self.timestep(method, num_labels, seed)
            options.append(f'model.policy.timestep={timestep}')
            folder = folder.with_name(f'{folder.name}_t{timestep}')
        if not folder.exists():
            # Renamed when complete, in case the study is killed.
            unfinished = folder.with_name(f'{folder.name}.part')
            shutil.rmtree(unfinished, ignore_errors=True)
            how = {}
            if method.is_latent:
                how = dict(teacher=None, config=runs.DISTILL_LATENT)
            runs.distill(unfinished, self.labels(labels, seed), options, **how)
            for checkpoint in unfinished.glob('epoch_*.pth'):
                checkpoint.unlink()
            unfinished.replace(folder)
        if method.reads_labels:
            timestep, _ = moments(read_records(str(folder))[-1])
        return folder / 'student.pth', timestep

    def run(self, methods: List[str], num_seeds: int, workers: int) -> None:
        """Add the missing scores to scores.csv, in several processes."""
        path = self.out / 'scores.csv'
        scores = tables.read_scores(path) if path.exists() else []
        done = {score[:4] for score in scores}
        jobs = [
            (method, seed, missing)
            for seed in range(num_seeds)
            for method in methods
            if (missing := [
                (n, padding)
                for n in self.budgets
                for padding in self.paddings
                if (method, n, padding, seed) not in done
            ])
        ]  # fmt: skip
        with ProcessPoolExecutor(
            workers,
            multiprocessing.get_context('spawn'),
            start_worker,
            (self.out,),
        ) as pool:
            results = pool.map(self.score, *zip(*jobs))
            for i, (job, new) in enumerate(zip(jobs, results), 1):
                scores += new
                tables.write_scores(path, scores)
                print(f'{i}/{len(jobs)}: {job[0]}, seed {job[1]}', flush=True)


def start_worker(out: Path) -> None:
    """Log to a file, and use one thread.

    Several threads round sums in another order, which changes the scores.
    """
    enable_safe_loading()
    torch.set_num_threads(1)
    log = (out / f'log_{os.getpid()}.txt').open('w', encoding='utf-8')
    sys.stdout = sys.stderr = log


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--methods', nargs='+', choices=METHODS, default=SHIPPED
    )
    parser.add_argument(
        '--num-labels', type=positive, nargs='+', default=[20, 50, 100, ALL]
    )
    parser.add_argument(
        '--padding', type=int, nargs='+', default=[0, 1],
        help='finetune with random shifts of up to this many pixels',
    )  # fmt: skip
    parser.add_argument('--seeds', type=positive, default=10)
    parser.add_argument('--workers', type=positive, default=os.cpu_count())
    parser.add_argument('--out', type=Path, default='work_dirs/evidence')
    parser.add_argument('--csv', type=Path, help='scores of an earlier study')
    args = parser.parse_args(argv)
    with report_errors():
        args.out.mkdir(parents=True, exist_ok=True)
        if args.csv is None:
            prepare_data.write_digits(runs.DATA)
            study = Study(args.out.resolve(), args.num_labels, args.padding)
            for seed in range(args.seeds):
                study.write_labels(seed)
            if any(METHODS[name].probed == 'all' for name in args.methods):
                study.probe()
            study.run(args.methods, args.seeds, args.workers)
        scores = tables.read_scores(args.csv or args.out / 'scores.csv')
        titles = {name: method.title for name, method in METHODS.items()}
        titles.update(REMOVED)
        page = tables.make_page(scores, titles)
        (args.out / 'evidence.md').write_text(page, encoding='utf-8')
    print(page)
    return 0


if __name__ == '__main__':
    sys.exit(main())
