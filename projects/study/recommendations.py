"""Count how often the probe recommends teachers of different quality.

    python -m projects.study.recommendations cifar10 camvid faces

For each project, three teachers are probed: one with random weights, one after
50 iterations, and the shipped one. The labels are several random draws of the
smallest budget of its study.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Type

import torch

from projects.study import runs
from projects.study.study import Study
from repfusion_mm.analysis.probe.study import study_teacher
from repfusion_mm.cli import report_errors
from repfusion_mm.cli.argument_types import positive_int

#: Names of the answers, by ``Recommendation.distill``.
ANSWERS = {True: 'distill', None: 'cannot tell', False: 'do not distill'}
ITERATIONS = 50


def find_study(name: str) -> Type[Study]:
    """Return the study of a project."""
    module = importlib.import_module(f'projects.{name}.study')
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Study)
        and value is not Study
    )
    return found


def make_teachers(name: str, out: Path) -> Dict[str, str]:
    """Train a teacher for one and for 50 iterations; return all folders."""
    folders = {}
    # After one step of the warm-up, weights are almost those of the beginning.
    for label, length in (
        ('random weights', 1),
        (f'{ITERATIONS} iterations', ITERATIONS),
    ):
        folder = out / name / f'teacher_{length}'
        if not (folder / 'teacher').exists():
            runs.train(
                runs.ROOT / f'configs/teacher/ddpm_{name}.py',
                folder,
                [
                    f'train_cfg.max_iters={length}',
                    'custom_hooks.1.num_steps=1',
                ],
            )
        folders[label] = str(folder / 'teacher')
    return {**folders, 'shipped': f'projects/{name}/ddpm_{name}'}


def answer(
    study: Study, num_labels: int, seed: int, teacher: str, out: Path
) -> Optional[bool]:
    """Return what the probe recommends for one draw of labels."""
    labels = study.labels(num_labels, seed)
    prober = runs.make_prober(
        study.distill_config,
        [
            f'probe_dataset.ann_file={labels}',
            f'model.teacher.pretrained={teacher}',
        ],
    )
    out.mkdir(parents=True, exist_ok=True)
    found = study_teacher(
        prober,
        prober.select_timesteps(None),
        prober.select_modes(None),
        out,
    )
    return found.recommendation.distill


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('projects', nargs='+', help='such as cifar10')
    parser.add_argument('--draws', type=positive_int, default=10)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/recommendations')
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    lines = [
        '| project, labels | teacher | ' + ' | '.join(ANSWERS.values()) + ' |',
        '|---|---|---|---|---|',
    ]
    with report_errors():
        for name in args.projects:
            study = find_study(name)(args.out / name)
            study.prepare()
            num_labels = int(min(n for n in study.num_iters if n != 'all'))
            teachers = make_teachers(name, args.out)
            for label, teacher in teachers.items():
                counts = Counter(
                    answer(
                        study, num_labels, seed, teacher,
                        args.out / name / f'{label}_{seed}'.replace(' ', '_'),
                    )
                    for seed in range(args.draws)
                )  # fmt: skip
                cells = ' | '.join(str(counts[key]) for key in ANSWERS)
                lines.append(f'| {name}, {num_labels} | {label} | {cells} |')
                print(lines[-1], flush=True)
    text = '\n'.join(lines) + '\n'
    (args.out / 'recommendations.md').write_text(text, encoding='utf-8')
    print(text, end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
