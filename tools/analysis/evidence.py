"""Compare ways to distil on the digits, at several numbers of labels.

    evidence.py --seeds 10 --workers 2

Each seed draws its own labelled images, trains its own students, and scores
them on the 500 test digits. Into --out go scores.csv with every score,
evidence.md with means, 95% intervals and what becomes of the claims, and
evidence.png. Call it again to go on where it was stopped; with --csv it
trains nothing and only writes the tables of another run.
"""

import argparse
import csv
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Dict, List, Optional

from evidence_methods import METHODS
from evidence_report import draw, make_page
from evidence_runs import ALL, Score, Site, run_unit, start_worker
from rich.progress import track

FILENAME = 'scores.csv'


def read_scores(path: Path) -> List[Score]:
    """Read scores, without a line that was cut short."""
    with path.open(newline='') as file:
        rows = list(csv.reader(file))[1:]
    width = len(Score._fields)
    return [Score.read(row) for row in rows if len(row) == width]


def write_scores(path: Path, scores: List[Score]) -> None:
    """Write all scores, whole or not at all."""
    unfinished = path.with_name(path.name + '.tmp')
    with unfinished.open('w', newline='') as file:
        csv.writer(file).writerows([Score._fields, *scores])
    unfinished.replace(path)


def run(site: Site, methods: List[str], seeds: int, workers: int) -> None:
    """Run what is not yet in scores.csv; a unit is a method and a seed."""
    path = site.out / FILENAME
    scores = read_scores(path) if path.exists() else []
    done: Dict[tuple, set] = {}
    for s in scores:
        key = done.setdefault((s.method, s.seed), set())
        key.add((s.num_labels, s.padding))
    everything = {(n, p) for n in site.budgets for p in site.paddings}
    due = [
        (method, seed, sorted(missing))
        for seed in range(seeds)
        for method in methods
        if (missing := everything - done.get((method, seed), set()))
    ]
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=start_worker,
        initargs=(max(1, (os.cpu_count() or 1) // workers), site.out),
    ) as pool:
        units = [pool.submit(run_unit, site, *unit) for unit in due]
        finished = as_completed(units)
        try:
            for unit in track(finished, 'evidence', total=len(units)):
                scores += unit.result()
                write_scores(path, sorted(scores, key=lambda s: s[:4]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--methods', nargs='+', choices=METHODS)
    parser.add_argument(
        '--num-labels', type=int, nargs='+', default=[20, 50, 100, ALL]
    )
    parser.add_argument(
        '--padding', type=int, nargs='+', default=[0, 1],
        help='shift images by up to so many pixels while finetuning',
    )  # fmt: skip
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--workers', type=int, default=os.cpu_count())
    parser.add_argument('--out', type=Path, default='work_dirs/evidence')
    parser.add_argument('--csv', type=Path, help='the scores of another run')
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.csv is None:
        site = Site.prepare(
            args.out, args.num_labels, args.padding, args.seeds
        )
        methods = args.methods or list(METHODS)
        run(site, methods, args.seeds, args.workers)
    scores = read_scores(args.csv or args.out / FILENAME)
    page = make_page(scores)
    (args.out / 'evidence.md').write_text(page)
    draw(scores, args.out / 'evidence.png')
    print(page)


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
