"""Draw how a run's policy changed during training.

    plot_policy.py work_dirs/repfusion_r18_digits [--probe .../probe.csv]

The script writes WORK_DIR/policy.png unless --out names another file. With
--probe, the scores that probe_timesteps.py wrote are drawn next to the
policy: the best curve for the smallest number of labels.
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

import cv2

from repfusion_mm.analysis.probe import read_result
from repfusion_mm.cli import report_errors
from repfusion_mm.visualization.policy_log import draw_records, read_records


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('work_dir', help='of a distillation')
    parser.add_argument('--probe', type=Path, help='CSV file of a probe')
    parser.add_argument('--out', type=Path, help='PNG file to write')
    args = parser.parse_args(argv)
    args.out = args.out or Path(args.work_dir, 'policy.png')
    if args.out.suffix != '.png':
        parser.error(f'expected --out to end in .png, got {args.out}')
    return args


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    with report_errors():
        plot(args)
    return 0


def plot(args: argparse.Namespace) -> None:
    """Draw the policy and write the image."""
    records = read_records(args.work_dir)
    probe = None
    if args.probe:
        probe = read_result(args.probe)
        if probe is None:
            raise ValueError(
                f'expected scores of probe_timesteps.py in {args.probe}, got '
                'none'
            )
    image = draw_records(records, *(probe[::-1] if probe else ()))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.out), image[..., ::-1]):
        raise OSError(f'expected to write a PNG file at {args.out}')
    print(f'{args.out}: {len(records)} records')


if __name__ == '__main__':
    sys.exit(main())
