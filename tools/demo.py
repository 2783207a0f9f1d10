"""The whole job on real images, in minutes, on a laptop without a GPU.

scikit-learn's 1,797 handwritten digits, of which only 20, 50 or 100 training
images have a label. A small diffusion model of the digits teaches a ResNet-18
at timesteps that a policy picks; the policy is rewarded on those labels alone.
The student is then finetuned on them, next to its twin from scratch.

Each step is a config run by tools/train.py; see work_dirs/demo for logs.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Dict, List

from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tools' / 'analysis')]
sys.path[:0] = [str(ROOT)]

from demo_report import (  # noqa: E402
    SHOWN_BUDGET,
    make_table,
    plot,
    summarize,
)

from projects.digits.prepare_data import BUDGETS, write_digits  # noqa: E402
from repfusion_mm.analysis.probe import (  # noqa: E402
    Prober,
    Score,
    mean_curves,
    write_scores,
)
from repfusion_mm.analysis.report import write_report  # noqa: E402
from repfusion_mm.cli.config import load_config, make_parser  # noqa: E402
from repfusion_mm.cli.train import build_runner  # noqa: E402
from repfusion_mm.engine.hooks.env_info_hook import find_versions  # noqa: E402
from repfusion_mm.visualization.policy_log import moments  # noqa: E402

GRID = (*range(0, 1000, 50), 999)
TEACHER = 'configs/teacher/ddpm_digits.py'
DISTILL = 'configs/distill/repfusion_r18_digits.py'
FINETUNE = 'configs/finetune/mmpretrain/resnet18-{}_digits.py'


class ProgressHook(Hook):
    """Move a progress bar with the iterations of a runner."""

    def __init__(self, progress: Progress, task: int) -> None:
        self.progress = progress
        self.task = task

    def before_train(self, runner) -> None:
        self.progress.update(self.task, total=runner.max_iters)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.progress.advance(self.task)


class Demo:
    """The steps of the demo, their bars and their times."""

    def __init__(self, args: argparse.Namespace, progress: Progress) -> None:
        self.args = args
        self.progress = progress
        self.teacher = str(ROOT / 'projects/digits/ddpm_digits')
        self.seconds: Dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, step: str):
        start = time.time()
        yield
        self.seconds[step] = round(time.time() - start, 1)

    def train(self, config: str, work_dir: str, *options: str, label=None):
        """Run tools/train.py, with a bar if it has a label."""
        folder = str(self.args.work_dir / work_dir)
        argv = [str(ROOT / config), '--work-dir', folder, '--cfg-options']
        runner = build_runner([*argv, *options])
        if label:
            task = self.progress.add_task(label, total=None)
            runner.register_hook(ProgressHook(self.progress, task))
        runner.train()
        return runner

    def train_teacher(self) -> None:
        self.train(TEACHER, 'teacher', label='train the teacher')
        self.teacher = str(self.args.work_dir / 'teacher' / 'teacher')

    def distill_dir(self, budget: int) -> Path:
        return self.args.work_dir / f'distill_{budget}'

    def distil(self, budget: int) -> dict:
        """Distil with ``budget`` labels; return the last policy record."""
        runner = self.train(
            DISTILL,
            self.distill_dir(budget).name,
            f'model.teacher.pretrained={self.teacher}',
            f'train_dataloader.dataset.datasets.0.ann_file=train_{budget}.txt',
            label=f'distil, {budget} labels',
        )
        records = Path(runner.log_dir, 'policy.jsonl').read_text()
        return json.loads(records.splitlines()[-1])

    def finetune_all(self, budget: int) -> Dict[str, List[float]]:
        """Finetune both twins with all seeds."""
        scores: Dict[str, List[float]] = dict(scratch=[], repfusion=[])
        runs = [(k, s) for k in scores for s in range(self.args.seeds)]
        label = f'finetune, {budget} labels'
        task = self.progress.add_task(label, total=len(runs))
        for kind, seed in runs:
            scores[kind].append(self.finetune(kind, budget, seed))
            self.progress.advance(task)
        return scores

    def finetune(self, kind: str, budget: int, seed: int) -> float:
        """Finetune and return the test accuracy in [0, 1]."""
        options = [
            f'train_dataloader.dataset.ann_file=train_{budget}.txt',
            f'randomness.seed={seed}',
            'train_dataloader.dataset.pipeline.1.padding='
            f'{self.args.crop_padding}',
        ]
        if kind == 'repfusion':
            student = self.distill_dir(budget) / 'student.pth'
            options.append(f'model.backbone.init_cfg.checkpoint={student}')
        runner = self.train(
            FINETUNE.format(kind),
            f'finetune_{kind}_{budget}_{seed}',
            *options,
        )
        scalar = runner.message_hub.get_scalar('val/accuracy/top1')
        return round(float(scalar.current()) / 100, 4)

    def probe(self, timesteps: List[int]) -> List[Score]:
        """Return the probe accuracies of the teacher at each timestep."""
        options = ['--cfg-options', f'model.teacher.pretrained={self.teacher}']
        args = make_parser('').parse_args([str(ROOT / DISTILL), *options])
        task = self.progress.add_task('probe timesteps', total=len(timesteps))
        prober = Prober(load_config(args), [SHOWN_BUDGET], num_splits=10)
        scores: List[Score] = []
        for t in timesteps:
            scores += prober.run(t, 'clean')
            self.progress.advance(task)
        return scores

    def report(self) -> None:
        """Make the page of all runs."""
        folders = [self.distill_dir(budget) for budget in BUDGETS]
        folders += [
            self.args.work_dir / f'finetune_{kind}_{budget}_{seed}'
            for budget in BUDGETS
            for kind in ('scratch', 'repfusion')
            for seed in range(self.args.seeds)
        ]
        out = self.args.work_dir / 'report.html'
        left_out = write_report(folders, out, 'RepFusion on the digits')
        if left_out:
            raise ValueError('\n'.join(left_out))

    def run(self) -> dict:
        """Run all steps and return the results."""
        start = time.time()
        write_digits(Path('data/digits'))
        self.seconds['teacher'] = 0.0
        if self.args.from_scratch:
            with self.timed('teacher'):
                self.train_teacher()
        with self.timed('distill'):
            policies = {budget: self.distil(budget) for budget in BUDGETS}
        shown = policies[SHOWN_BUDGET]
        centre, std = moments(shown)
        with self.timed('probe'):
            scores = self.probe(sorted({*GRID, round(centre)}))
        write_scores(self.distill_dir(SHOWN_BUDGET) / 'probe.csv', scores)
        with self.timed('finetune'):
            labels = {str(b): self.finetune_all(b) for b in BUDGETS}
        curve = next(iter(mean_curves(scores).values()))
        self.seconds['total'] = round(time.time() - start, 1)
        results = dict(
            labels=labels,
            probe={str(t): round(mean, 4) for t, (mean, _) in curve.items()},
            policy=dict(timestep_mean=centre, timestep_std=std),
            seconds=self.seconds,
            versions=find_versions(),
        )
        out = self.args.work_dir
        (out / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
        plot(results, shown, out / 'results.png')
        self.report()
        return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='train the teacher too, instead of loading ddpm_digits',
    )
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument(
        '--crop-padding',
        type=int,
        default=0,
        help='finetune both twins with random shifts by so many pixels',
    )
    parser.add_argument('--work-dir', type=Path, default='work_dirs/demo')
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    console = Console()
    log = args.work_dir / 'log.txt'
    columns = [
        TextColumn('{task.description:36}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    console.print(f'log: {log}')
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console))
        file = stack.enter_context(log.open('w'))
        stack.enter_context(contextlib.redirect_stdout(file))
        stack.enter_context(contextlib.redirect_stderr(file))
        results = Demo(args, progress).run()
    console.print(make_table(results))
    console.print(summarize(results))
    console.print(
        f'{results["seconds"]["total"]:.0f} s; see '
        f'{args.work_dir / "report.html"}, results.png and results.json'
    )


if __name__ == '__main__':
    main()
