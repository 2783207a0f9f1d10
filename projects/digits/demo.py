"""Run RepFusion on real images, in minutes, on a laptop without a GPU.

The images are scikit-learn's 1,797 handwritten digits. Only 20, 50 or 100
training images have a label. A small diffusion model of the digits teaches a
ResNet-18 at timesteps that a policy picks; the loss of a decoder on the
labeled images rewards the policy. The student is then finetuned on the labeled
images and compared with the same network trained from scratch, and with a
logistic regression of raw pixels.

Each step trains a config as tools/train.py does. Logs are in work_dirs/demo.
The runs share the cores: each is a process of one thread.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, TextIO

from projects.digits import raw_pixels, results, runs
from projects.digits.prepare_data import BUDGETS, write_digits
from projects.digits.results import SHOWN_BUDGET
from projects.study.command import start_worker
from projects.study.runs import train
from repfusion_mm.analysis.probe import write_table
from repfusion_mm.analysis.report import write_report
from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int
from repfusion_mm.cli.config import enable_safe_loading
from repfusion_mm.engine.hooks.env_info_hook import find_versions
from repfusion_mm.visualization.policy_log import moments, read_records


def distill(folder: Path, budget: int, teacher: Path) -> dict:
    """Distill with ``budget`` labels; return the last policy record."""
    runner = runs.distill(folder, f'train_{budget}.txt', teacher=teacher)
    return read_records(runner.log_dir)[-1]


def probe(
    folder: Path, timesteps: List[int], teacher: Path
) -> Dict[str, dict]:
    """Return what the probe measured at each timestep, and write it."""
    # Those of an earlier demo may be of another teacher.
    shutil.rmtree(folder / 'features', ignore_errors=True)
    prober = runs.make_prober(f'train_{SHOWN_BUDGET}.txt', teacher)
    measured = prober.probe(timesteps, ['clean'], folder)
    write_table(measured, folder / 'probe.csv')
    return {
        str(t): dict(
            r2=round(m.r2, 4),
            r2_error=round(m.r2_error, 4),
            accuracy=round(m.score[0], 4),
        )
        for (_, _, t), m in measured.items()
    }


class Demo:
    """The steps of the demo.

    Args:
        args: Command-line arguments.
        out: Where each step prints one line when it has ended.
    """

    def __init__(self, args: argparse.Namespace, out: TextIO) -> None:
        self.args = args
        self.out = out
        self.start = time.time()
        #: Work directories for the report.
        self.folders: List[Path] = []
        self.teacher = runs.TEACHER

    def log(self, title: str) -> None:
        """Print a step that has ended, and the time."""
        elapsed = f'{time.time() - self.start:6.1f} s'
        print(f'{elapsed}  {title}', file=self.out, flush=True)

    def train_teacher(self) -> None:
        work_dir = self.args.work_dir / 'teacher'
        train(runs.CONFIGS / 'teacher/ddpm_digits.py', work_dir)
        self.teacher = work_dir / 'teacher'
        self.log('trained the teacher')

    def distill_dir(self, budget: int) -> Path:
        return self.args.work_dir / f'distill_{budget}'

    def submit(
        self,
        pool: ProcessPoolExecutor,
        title: str,
        function: Callable,
        *args: Any,
    ) -> Future:
        """Run a function in another process; print ``title`` at its end."""
        future = pool.submit(function, *args)

        def log(future: Future) -> None:
            with contextlib.suppress(Exception):  # raised to the caller
                future.result()
                self.log(title)

        future.add_done_callback(log)
        return future

    def finetune(
        self, pool: ProcessPoolExecutor, kind: str, budget: int
    ) -> List[Future]:
        """Start the finetunings of all seeds; they return the accuracies."""
        student = self.distill_dir(budget) / 'student.pth'
        futures = []
        for seed in range(self.args.seeds):
            name = f'finetune_{kind}_{budget}_{seed}'
            folder = self.args.work_dir / name
            self.folders.append(folder)
            futures.append(
                self.submit(
                    pool,
                    f'finetuned {kind} on {budget} labels, seed {seed}',
                    runs.finetune,
                    folder,
                    f'train_{budget}.txt',
                    student if kind == 'repfusion' else None,
                    seed,
                    self.args.crop_padding,
                )
            )
        return futures

    def train_students(self, pool: ProcessPoolExecutor) -> dict:
        """Distill, probe and finetune; return the results and a record."""
        distilled = {}
        for budget in BUDGETS:
            folder = self.distill_dir(budget)
            self.folders.append(folder)
            distilled[budget] = self.submit(
                pool, f'distilled with {budget} labels', distill, folder,
                budget, self.teacher,
            )  # fmt: skip
        # Meanwhile, networks that need no student.
        futures = {
            budget: dict(scratch=self.finetune(pool, 'scratch', budget))
            for budget in BUDGETS
        }
        for budget in BUDGETS:
            distilled[budget].result()
            futures[budget]['repfusion'] = self.finetune(
                pool, 'repfusion', budget
            )
        record = distilled[SHOWN_BUDGET].result()
        mean, std = moments(record)
        timesteps = sorted({*runs.PROBE_GRID, round(mean)})
        probed = self.submit(
            pool, f'probed {len(timesteps)} timesteps', probe,
            self.distill_dir(SHOWN_BUDGET), timesteps, self.teacher,
        )  # fmt: skip
        return dict(
            labels={
                str(budget): {
                    kind: [future.result() for future in of_seeds]
                    for kind, of_seeds in by_kind.items()
                }
                for budget, by_kind in futures.items()
            },
            pixels={
                str(n): raw_pixels.score(runs.DATA / f'train_{n}.txt')
                for n in BUDGETS
            },
            probe=probed.result(),
            policy=dict(timestep_mean=mean, timestep_std=std),
            record=record,
        )

    def run(self) -> dict:
        """Run all steps and return the results.

        Raises:
            ValueError: The report cannot read a run.
        """
        write_digits(runs.DATA)
        if self.args.from_scratch:
            self.train_teacher()
        out = self.args.work_dir
        with ProcessPoolExecutor(
            self.args.workers,
            multiprocessing.get_context('spawn'),
            start_worker,
            (out,),
        ) as pool:
            try:
                summary = self.train_students(pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        record = summary.pop('record')
        summary['seconds'] = round(time.time() - self.start, 1)
        summary['versions'] = find_versions()
        (out / 'results.json').write_text(
            json.dumps(summary, indent=2) + '\n', encoding='utf-8'
        )
        results.plot_results(summary, record, out / 'results.png')
        page = out / 'report.html'
        left_out = write_report(self.folders, page, 'RepFusion on the digits')
        if left_out:
            raise ValueError('\n'.join(left_out))
        return summary


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument(
        '--from-scratch', action='store_true',
        help='train the teacher too, instead of using the shipped one',
    )  # fmt: skip
    parser.add_argument('--seeds', type=positive_int, default=3)
    parser.add_argument(
        '--crop-padding', type=int, default=0,
        help='finetune with random shifts of up to this many pixels',
    )  # fmt: skip
    parser.add_argument(
        '--workers', type=positive_int, default=os.cpu_count(),
        help='processes, of one CPU thread each (default: one per CPU core)',
    )  # fmt: skip
    parser.add_argument('--work-dir', type=Path, default='work_dirs/demo')
    args = parser.parse_args(argv)
    log = args.work_dir / 'log.txt'
    with report_errors():
        enable_safe_loading()
        args.work_dir.mkdir(parents=True, exist_ok=True)
        print(f'logs: {args.work_dir}/log*.txt')
        demo = Demo(args, sys.stdout)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(log.open('w', encoding='utf-8'))
            stack.enter_context(contextlib.redirect_stdout(file))
            stack.enter_context(contextlib.redirect_stderr(file))
            summary = demo.run()
    print(results.format_results(summary))
    print(
        f'{summary["seconds"]:.0f} s; see '
        f'{args.work_dir / "report.html"}, results.png and results.json'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
