"""Compare a distillation in mixed precision with one in float32.

    precision.py projects/cifar10/configs/repfusion_resnet18_cifar10-images.py

Three runs of the same number of iterations: in float32, with --amp, and in
float32 with another seed, whose difference shows the effect of chance. For
each run, the script prints the mean loss of the last quarter, the mean
absolute difference of its loss curve to that of the first run, relative to
the mean loss of the first run, and the R² of a linear probe of its student on
the labeled images of the config.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from repfusion_mm.analysis.probe import Prober
from repfusion_mm.analysis.probe.student import probe_student
from repfusion_mm.analysis.report.runs import read_run
from repfusion_mm.cli import (
    build_runner,
    make_parser,
    report_errors,
    script_parser,
)
from repfusion_mm.cli.argument_types import output_file, positive_int
from repfusion_mm.cli.config import load_config

LOSS = 'loss_distill'
RUNS: Dict[str, tuple] = {
    'float32': ([], 0),
    'mixed precision': (['--amp'], 0),
    'float32, another seed': ([], 1),
}


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add('config', help='a distillation by iterations, with labeled images')
    add(
        '--iters',
        type=positive_int,
        default=200,
        help='iterations of each run',
    )
    add('--json', type=output_file, metavar='OUT', help='write all results')
    add('--cfg-options', nargs='+', action='extend', default=[],
        metavar='KEY=VALUE', help='change the config')  # fmt: skip
    args = parser.parse_args(argv)
    with report_errors(), tempfile.TemporaryDirectory() as folder:
        result = compare(args, Path(folder))
    for name, figures in result.items():
        text = ', '.join(
            f'{key} {value:.4f}' for key, value in figures.items()
        )
        print(f'{name}: {text}')
    if args.json:
        args.json.write_text(
            json.dumps(result, indent=2) + '\n', encoding='utf-8'
        )
    return 0


def compare(args, folder: Path) -> Dict[str, Dict[str, float]]:
    """Train and probe, and return the figures of each run."""
    options = [args.config, '--cfg-options', *args.cfg_options]
    options += [
        f'train_cfg.max_iters={args.iters}', 'default_hooks.logger.interval=1'
    ]  # fmt: skip
    result: Dict[str, Dict[str, float]] = {}
    curves = []
    for name, (flags, seed) in RUNS.items():
        work_dir = folder / name
        build_runner([
            *options, f'randomness.seed={seed}', *flags,
            '--work-dir', str(work_dir),
        ]).train()  # fmt: skip
        curve = np.array([v for _, v in read_run(work_dir).curves[LOSS]])
        curves.append(curve)
        distance = np.abs(curve - curves[0]).mean() / np.abs(curves[0]).mean()
        result[name] = {
            'loss': float(curve[-len(curve) // 4 :].mean()),
            'difference of the curve': float(distance),
        }
    prober = Prober(load_config(make_parser('').parse_args(options)))
    (layer,) = prober.teacher.layers[-1:]
    for name, figures in result.items():
        best = (prober.input_mode, layer, 0)
        probe = probe_student(prober, folder / name / 'student.pth', best)
        figures['R²'] = probe.distilled.r2
    untrained = max(initial.r2 for initial in probe.initial)
    result['untrained student'] = {'R²': untrained}
    return result


if __name__ == '__main__':
    sys.exit(main())
