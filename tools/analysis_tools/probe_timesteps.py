"""Measure by linear probes how useful each timestep of a teacher is.

    probe_timesteps.py CONFIG --num-labels 20 50 100

For every timestep, layer and input mode, a linear model is fitted to the
teacher's features of a few labeled images and scored on the other images,
over several random splits. The score is the accuracy for classes, the mean
IoU on the teacher's grid for masks, and minus the error for keypoints. The
images are those of probe_dataset in the config, or else the labeled training
images.

The script writes probe.csv with every score, probe.png, and probe.txt with
the range of timesteps that are as good as the best one. The same command
resumes after an interruption.
"""

import sys
from functools import partial
from pathlib import Path
from typing import List, Optional

from repfusion_mm.analysis.probe.prober import MAX_IMAGES, Prober
from repfusion_mm.analysis.probe.scores import draw_scores, recommend
from repfusion_mm.cli import load_config, make_parser, report_errors
from repfusion_mm.cli.argument_types import integer, positive


def main(argv: Optional[List[str]] = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--timesteps', type=int, nargs='+',
        help="default: twenty of the teacher's schedule, and its last one",
    )  # fmt: skip
    two_or_more = partial(integer, minimum=2)
    parser.add_argument(
        '--num-labels', type=two_or_more, nargs='+', default=[50]
    )
    parser.add_argument('--num-splits', type=two_or_more, default=10)
    parser.add_argument(
        '--input-modes', nargs='+', choices=('clean', 'noised'),
        help='default: that of model.teacher',
    )  # fmt: skip
    parser.add_argument(
        '--max-images', type=positive, default=MAX_IMAGES,
        help='read so many labeled images at most (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, help='folder (default: WORK_DIR)')
    args = parser.parse_args(argv)
    with report_errors():
        cfg = load_config(args)
        prober = Prober(cfg, args.num_labels, args.num_splits, args.max_images)
        timesteps = prober.select_timesteps(args.timesteps)
        out = Path(args.out or cfg.work_dir)
        out.mkdir(parents=True, exist_ok=True)
        print(
            f'{len(prober.targets)} labeled images; features of one timestep '
            f'take {prober.num_bytes() / 2**20:.0f} MiB'
        )
        scores = prober.resume(timesteps, args.input_modes, out)
        draw_scores(scores, prober.task.metric, out / 'probe.png')
        advice = recommend(scores, prober.task.metric)
        (out / 'probe.txt').write_text(advice + '\n', encoding='utf-8')
        print(advice)
        print(f'see {out / "probe.csv"}, probe.png and probe.txt')
    return 0


if __name__ == '__main__':
    sys.exit(main())
