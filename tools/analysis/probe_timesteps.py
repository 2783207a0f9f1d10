"""Measure what each timestep of a teacher is worth, by linear probes.

    probe_timesteps.py CONFIG --num-labels 20 50 100

For every timestep, layer and way of input, a linear model is fitted on the
features of a few labelled images and scored on the others, over several
random splits: accuracy for classes, mean IoU of the teacher's grid for masks,
minus the error for key points. The images are those of ``probe_dataset`` in
the config, or else the labelled ones that the distillation trains on.

Into --out go probe.csv with every score, probe.png, and probe.txt with the
range of timesteps that are as good as the best. Call it again to go on where
it was stopped.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import List, Optional

from mmengine.config import Config
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))
from probe_report import draw, recommend
from prober import MAX_IMAGES, Prober, Score

from repfusion_mm.cli.config import load_config, make_parser
from repfusion_mm.models.teachers.diffusers_teacher import INPUT_MODES


def read_scores(path: Path) -> List[Score]:
    """Read what an earlier call wrote; a line that was cut is left out.

    Returns:
        No scores where there is no file.

    Raises:
        ValueError: The file is no table of scores.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline='') as file:
            head, *rows = csv.reader(file)
        if tuple(head) != Score._fields:
            raise ValueError(f'its first line is {head}')
        return [
            Score(mode, layer, int(t), int(n), int(i), float(score))
            for mode, layer, t, n, i, score in filter(_whole, rows)
        ]
    except ValueError as error:
        raise ValueError(
            f'expected scores of probe_timesteps.py in {path}, got something '
            f'else: {error}'
        ) from error


def _whole(row: List[str]) -> bool:
    return len(row) == len(Score._fields)


def write_scores(path: Path, scores: List[Score]) -> None:
    """Write all scores, whole or not at all."""
    unfinished = path.with_name(path.name + '.tmp')
    with unfinished.open('w', newline='') as file:
        csv.writer(file).writerows([Score._fields, *scores])
    unfinished.replace(path)


def check_settings(path: Path, cfg: Config, num_images: int) -> None:
    """Keep what the scores depend on beside them.

    Raises:
        ValueError: Those that are there are of something else.
    """
    teacher = cfg.model.teacher.to_dict()
    teacher.pop('input_mode', None)
    settings = json.loads(
        json.dumps(dict(teacher=teacher, num_images=num_images))
    )
    try:
        known = json.loads(path.read_text()) if path.exists() else settings
    except ValueError:
        known = None
    if known != settings:
        raise ValueError(
            f'expected the scores in {path.parent} to be of the same teacher '
            'and images, got those of others; give another --out'
        )
    path.write_text(json.dumps(settings, indent=2) + '\n')


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--timesteps',
        type=int,
        nargs='+',
        help="default: twenty over the teacher's schedule, and its last",
    )
    parser.add_argument('--num-labels', type=int, nargs='+', default=[50])
    parser.add_argument('--num-splits', type=int, default=10)
    parser.add_argument(
        '--input-modes', nargs='+', choices=INPUT_MODES, default=['clean']
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=MAX_IMAGES,
        help='stop reading labelled images here (default: %(default)s)',
    )
    parser.add_argument('--out', type=Path, help='folder (default: WORK_DIR)')
    args = parser.parse_args(argv)
    if args.num_splits < 2 or min(args.num_labels) < 2 or args.max_images < 3:
        parser.error(
            'expected --num-splits and --num-labels of at least 2, and '
            f'--max-images of at least 3, got {args.num_splits}, '
            f'{args.num_labels} and {args.max_images}'
        )
    return args


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    prober = Prober(cfg, args.num_labels, args.num_splits, args.max_images)
    timesteps = args.timesteps or prober.grid()
    prober.check_timesteps(timesteps)
    out = Path(args.out or cfg.work_dir)
    out.mkdir(parents=True, exist_ok=True)
    print(
        f'{len(prober.targets)} labelled images; features of one timestep '
        f'take {prober.num_bytes() / 2**20:.0f} MiB'
    )
    check_settings(out / 'probe.json', cfg, len(prober.targets))
    table = out / 'probe.csv'
    scores = read_scores(table)
    done = {score[:5] for score in scores}
    for mode in args.input_modes:
        due = [
            t
            for t in timesteps
            for layer in prober.teacher.layers
            for n in args.num_labels
            for i in range(args.num_splits)
            if (mode, layer, t, n, i) not in done
        ]
        for t in track(sorted(set(due)), description=f'probing, {mode}'):
            new = [s for s in prober.run(t, mode, out) if s[:5] not in done]
            scores += new
            write_scores(table, scores)
    draw(scores, prober.task.metric, out / 'probe.png')
    advice = recommend(scores, prober.task.metric)
    (out / 'probe.txt').write_text(advice + '\n')
    print(advice)
    print(f'see {table}, probe.png and probe.txt')


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
