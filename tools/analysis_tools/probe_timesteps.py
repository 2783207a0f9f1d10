"""Measure how well a teacher's features predict your labels at each timestep.

    probe_timesteps.py CONFIG

For each layer and timestep, a linear model (ridge regression) of the
teacher's features is scored by leave-one-out cross-validation. For classes,
all timesteps of a layer share one model. The score is the accuracy for
classes, the mean IoU on the teacher's grid for masks, and minus the error for
keypoints. The same is done with raw pixels, without an image, with untrained
copies of the network, and with labels permuted at random. The images are those
of probe_dataset in the config, or else the labeled training images.

The script writes probe.csv with all scores, probe.png, and probe.txt: whether
to distill from this teacher and, unless it advises against it, the lines of a
config. Features are kept in features/, from which the same command resumes
after an interruption.
"""

import sys
from pathlib import Path
from typing import List, Optional

from repfusion_mm.cli import config_parser, report_errors
from repfusion_mm.cli.argument_types import positive_int


def main(argv: Optional[List[str]] = None) -> int:
    parser = config_parser(__doc__)
    parser.add_argument(
        '--timesteps', type=int, nargs='+',
        help='default: about twenty, evenly spaced, and the last one',
    )  # fmt: skip
    parser.add_argument(
        '--input-modes', nargs='+', choices=('clean', 'noised'),
        help='default: that of model.teacher',
    )  # fmt: skip
    parser.add_argument(
        '--max-images', type=positive_int, default=500,
        help='largest number of labeled images (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--out', '--work-dir', dest='work_dir',
        help="folder of the results (default: the work directory of the "
        "config's training)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    with report_errors():
        # Not at the top: help and errors in options need not wait for torch.
        from repfusion_mm.analysis.probe.config_lines import advise
        from repfusion_mm.analysis.probe.prober import Prober
        from repfusion_mm.analysis.probe.study import study_teacher
        from repfusion_mm.cli.config import load_config

        cfg = load_config(args)
        prober = Prober(cfg, args.max_images)
        timesteps = prober.select_timesteps(args.timesteps)
        modes = prober.select_modes(args.input_modes)
        out = Path(cfg.work_dir)
        out.mkdir(parents=True, exist_ok=True)
        print(prober.summary())
        found = study_teacher(prober, timesteps, modes, out)
        parts = [found.text]
        if found.recommendation.distill is not False:
            mode, layer, timestep = found.best
            same = prober.input_mode in (None, mode)
            parts.append(
                advise(
                    cfg, [*prober.grids], layer, timestep,
                    None if same else mode, args.cfg_options or (),
                )
            )  # fmt: skip
        text = '\n'.join(parts) + '\n'
        (out / 'probe.txt').write_text(
            f'{prober.summary()}\n{text}', encoding='utf-8'
        )
        print(text)
        print(f'see {out / "probe.csv"}, probe.png and probe.txt')
    return 0


if __name__ == '__main__':
    sys.exit(main())
