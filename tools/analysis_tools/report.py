"""Write one HTML page about teachers, distillations and finetunings.

    report.py work_dirs/repfusion_resnet18_digits work_dirs/resnet18-*_digits

For each distillation the page shows the policy during training (next to the
probe if the folder has a probe.csv), losses, warnings, versions and the
config; for the training of a teacher, sampled images and losses. Runs with
validation scores are compared in a table; runs that differ only in their seed
share a row. Finetuned students are compared with training from scratch. The
page needs no network.

The page names folders that cannot be read; the exit status is then 1.
"""

import sys
from pathlib import Path
from typing import List, Optional

from repfusion_mm.cli import report_errors, script_parser


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument(
        'work_dirs', type=Path, nargs='+', help='work directories of runs'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('report.html'),
        help='HTML file to write (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--title', default='RepFusion', help='of the page (%(default)s)'
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.html':
        parser.error(f'expected --out to end in .html, got {args.out}')
    with report_errors():
        # Not at the top: help and errors in options need not wait for torch.
        from repfusion_mm.analysis.report import write_report

        skipped = write_report(args.work_dirs, args.out, args.title)
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')
    for reason in skipped:
        print(f'error: skipped: {reason}', file=sys.stderr)
    return int(bool(skipped))


if __name__ == '__main__':
    sys.exit(main())
