"""Compare teachers on labeled images by linear probes, and their cost.

    compare_teachers.py sd15.py dinov2.py --out FOLDER

Each config is that of a distillation; all must have the same labeled images
(probe_dataset, or else the labeled training images). For each layer and
timestep of each teacher, a linear model is fitted to the features of all
labeled images but one and scored on that one, as by probe_timesteps.py.

The script writes comparison.md (the table, and the lines of a config for each
teacher), comparison.png, comparison.csv, and a folder NAME for each config
NAME.py. The same command resumes after an interruption.
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from repfusion_mm.cli import add_cfg_options, report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--timesteps', type=int, nargs='+',
        help='default: about twenty of each schedule, evenly spaced, and the '
        'last one; a teacher of one timestep is always probed at 0',
    )  # fmt: skip
    parser.add_argument(
        '--max-images', type=positive_int, default=500,
        help='largest number of labeled images (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/compare_teachers'),
        help='folder (default: %(default)s)',
    )  # fmt: skip
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    with report_errors():
        compare(args)
    return 0


def compare(args: argparse.Namespace) -> None:
    """Probe all teachers; write and print the comparison."""
    # Not at the top: help and errors in options need not wait for torch.
    from repfusion_mm.analysis.comparison import (
        Settings,
        check_candidates,
        draw_comparison,
        format_comparison,
        probe_candidates,
        write_points,
    )
    from repfusion_mm.cli.config import read_config

    names = [Path(path).stem for path in args.configs]
    if len(set(names)) < len(names):
        raise ValueError(
            f'expected configs of different names, got {sorted(names)}; '
            'rename the files, or leave out one that is given twice'
        )
    configs = {
        name: read_config(path, args.cfg_options)
        for name, path in zip(names, args.configs)
    }
    settings = Settings(args.timesteps, args.max_images)
    check_candidates(configs, settings, args.out)
    comparison = probe_candidates(configs, settings, args.out)
    points, baselines, metric, summary = comparison
    page = f'{summary}\n\n' + format_comparison(
        points, baselines, metric, configs, args.cfg_options or ()
    )
    (args.out / 'comparison.md').write_text(page, encoding='utf-8')
    write_points(points, args.out / 'comparison.csv')
    draw_comparison(points, baselines, metric, args.out / 'comparison.png')
    print(page)
    print(f'see comparison.md, .png and .csv in {args.out}')


if __name__ == '__main__':
    sys.exit(main())
