"""Draw how a run's policy changed during training.

    plot_policy.py work_dirs/repfusion_resnet18_digits [--probe .../probe.csv]

With --probe, the scores that probe_timesteps.py wrote are drawn next to the
policy: those of the layer with the highest R².
"""

import sys
from pathlib import Path
from typing import List, Optional

from repfusion_mm.cli import report_errors, script_parser


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('work_dir', help='of a distillation')
    parser.add_argument('--probe', type=Path, help='CSV file of a probe')
    parser.add_argument(
        '--out', type=Path, help='PNG file (default: WORK_DIR/policy.png)'
    )
    args = parser.parse_args(argv)
    out = args.out or Path(args.work_dir, 'policy.png')
    if out.suffix != '.png':
        parser.error(f'expected --out to end in .png, got {out}')
    with report_errors():
        # Not at the top: help and errors in options need not wait for torch.
        from repfusion_mm.analysis.probe import read_best
        from repfusion_mm.visualization.policy_log import (
            plot_records,
            read_records,
        )

        records = read_records(args.work_dir)
        probe = read_best(args.probe) if args.probe else ()
        if probe is None:
            raise ValueError(
                f'expected scores of probe_timesteps.py in {args.probe}, got '
                'none'
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_records(records, *probe).savefig(out)
        print(f'{out}: {len(records)} records')
    return 0


if __name__ == '__main__':
    sys.exit(main())
