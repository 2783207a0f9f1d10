"""Run RepFusion on real images, in minutes, on a laptop without a GPU.

The images are scikit-learn's 1,797 handwritten digits. Only 20, 50 or 100
training images have a label. A small diffusion model of the digits teaches a
ResNet-18 at timesteps that a policy picks; the loss of a decoder on the
labeled images rewards the policy. The student is then finetuned on the labeled
images and compared with the same network trained from scratch.

Each step trains a config as tools/train.py does. Logs are in work_dirs/demo.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, TextIO

from projects.digits import results, runs
from projects.digits.prepare_data import BUDGETS, write_digits
from projects.digits.results import SHOWN_BUDGET
from projects.study.runs import train
from repfusion_mm.analysis.probe import write_table
from repfusion_mm.analysis.report import write_report
from repfusion_mm.cli import report_errors
from repfusion_mm.cli.argument_types import positive
from repfusion_mm.cli.config import enable_safe_loading
from repfusion_mm.engine.hooks.env_info_hook import find_versions
from repfusion_mm.visualization.policy_log import moments, read_records


class Demo:
    """The steps of the demo.

    Args:
        args: Command-line arguments.
        out: Where each step prints one line when it begins.
    """

    def __init__(self, args: argparse.Namespace, out: TextIO) -> None:
        self.args = args
        self.out = out
        self.start = time.time()
        self.seconds = dict(teacher=0.0, distill=0.0, probe=0.0, finetune=0.0)
        #: Work directories for the report.
        self.folders: List[Path] = []
        self.teacher = runs.TEACHER

    @contextlib.contextmanager
    def step(self, kind: str, title: str) -> Iterator[None]:
        """Print the step and add its time to those of its kind."""
        start = time.time()
        elapsed = f'{start - self.start:6.1f} s'
        print(f'{elapsed}  {title}', file=self.out, flush=True)
        yield
        self.seconds[kind] += time.time() - start

    def train_teacher(self) -> None:
        with self.step('teacher', 'train the teacher'):
            work_dir = self.args.work_dir / 'teacher'
            train(runs.CONFIGS / 'teacher/ddpm_digits.py', work_dir)
            self.teacher = work_dir / 'teacher'

    def distill_dir(self, budget: int) -> Path:
        return self.args.work_dir / f'distill_{budget}'

    def distill(self, budget: int) -> dict:
        """Distill with ``budget`` labels; return the last policy record."""
        with self.step('distill', f'distill with {budget} labels'):
            folder = self.distill_dir(budget)
            labels = f'train_{budget}.txt'
            runner = runs.distill(folder, labels, teacher=self.teacher)
            self.folders.append(folder)
            return read_records(runner.log_dir)[-1]

    def probe(self, timesteps: List[int]) -> Dict[str, dict]:
        """Return what the probe measured at each timestep, and write it."""
        with self.step('probe', f'probe {len(timesteps)} timesteps'):
            labels = f'train_{SHOWN_BUDGET}.txt'
            prober = runs.make_prober(labels, self.teacher)
            folder = self.distill_dir(SHOWN_BUDGET)
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

    def finetune(self, budget: int) -> Dict[str, List[float]]:
        """Return the test accuracies of all seeds, by initialization."""
        num_seeds = self.args.seeds
        title = f'finetune {2 * num_seeds} networks on {budget} labels'
        student = self.distill_dir(budget) / 'student.pth'
        scores: Dict[str, List[float]] = dict(scratch=[], repfusion=[])
        with self.step('finetune', title):
            for kind, accuracies in scores.items():
                for seed in range(num_seeds):
                    name = f'finetune_{kind}_{budget}_{seed}'
                    folder = self.args.work_dir / name
                    accuracy = runs.finetune(
                        folder,
                        f'train_{budget}.txt',
                        student if kind == 'repfusion' else None,
                        seed,
                        self.args.crop_padding,
                    )
                    accuracies.append(accuracy)
                    self.folders.append(folder)
        return scores

    def run(self) -> dict:
        """Run all steps and return the results.

        Raises:
            ValueError: The report cannot read a run.
        """
        write_digits(runs.DATA)
        if self.args.from_scratch:
            self.train_teacher()
        records = {budget: self.distill(budget) for budget in BUDGETS}
        record = records[SHOWN_BUDGET]
        mean, std = moments(record)
        probe = self.probe(sorted({*runs.PROBE_GRID, round(mean)}))
        labels = {str(budget): self.finetune(budget) for budget in BUDGETS}
        seconds = dict(self.seconds, total=time.time() - self.start)
        summary = dict(
            labels=labels,
            probe=probe,
            policy=dict(timestep_mean=mean, timestep_std=std),
            seconds={name: round(value, 1) for name, value in seconds.items()},
            versions=find_versions(),
        )
        out = self.args.work_dir
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
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--from-scratch', action='store_true',
        help='train the teacher too, instead of using the shipped one',
    )  # fmt: skip
    parser.add_argument('--seeds', type=positive, default=3)
    parser.add_argument(
        '--crop-padding', type=int, default=0,
        help='finetune with random shifts of up to this many pixels',
    )  # fmt: skip
    parser.add_argument('--work-dir', type=Path, default='work_dirs/demo')
    args = parser.parse_args(argv)
    log = args.work_dir / 'log.txt'
    with report_errors():
        enable_safe_loading()
        args.work_dir.mkdir(parents=True, exist_ok=True)
        print(f'log: {log}')
        demo = Demo(args, sys.stdout)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(log.open('w', encoding='utf-8'))
            stack.enter_context(contextlib.redirect_stdout(file))
            stack.enter_context(contextlib.redirect_stderr(file))
            summary = demo.run()
    print(results.format_results(summary))
    print(
        f'{summary["seconds"]["total"]:.0f} s; see '
        f'{args.work_dir / "report.html"}, results.png and results.json'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
