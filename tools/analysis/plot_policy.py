"""Draw what a run's policy did, from what was logged.

    plot_policy.py work_dirs/repfusion_r18_digits [--probe .../probe.csv]

The picture is work_dir/policy.png unless --out says otherwise. A probe is
what probe_timesteps.py wrote; its best curve, at the fewest labels, is laid
beside the policy's timesteps.
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

import cv2
from probe_report import best_curve, curves
from probe_timesteps import read_scores

from repfusion_mm.visualization.policy_log import draw_records, read_records


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('work_dir', help='of a distillation')
    parser.add_argument('--probe', type=Path, help='CSV of a probe')
    parser.add_argument('--out', type=Path, help='PNG file to write')
    args = parser.parse_args(argv)
    out = args.out or Path(args.work_dir, 'policy.png')
    if out.suffix != '.png':
        parser.error(f'expected --out to end in .png, got {out}')
    records = read_records(args.work_dir)
    probe = None
    if args.probe:
        found = curves(read_scores(args.probe))
        if not found:
            raise ValueError(
                f'expected scores of probe_timesteps.py in {args.probe}, got '
                'none'
            )
        _, _, curve = best_curve(found, min(key[2] for key in found))
        probe = {t: mean for t, (mean, _) in curve.items()}
    image = draw_records(records, probe)
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), image[..., ::-1]):
        raise OSError(f'expected to write a PNG file at {out}')
    print(f'{out}: {len(records)} records')


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
