"""The command line of a study."""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Type

import torch

from projects.study.figure import plot_study
from projects.study.scores import (
    NumLabels,
    Score,
    parse_num_labels,
    read_costs,
    read_scores,
    write_scores,
)
from projects.study.study import Study
from projects.study.tables import make_page
from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int
from repfusion_mm.cli.config import enable_safe_loading


class Job(NamedTuple):
    """The arguments of :meth:`Study.score`."""

    method: str
    num_labels: NumLabels
    seed: int


def run_study(kind: Type[Study], argv: Optional[List[str]] = None) -> int:
    """Run a study, and write its page."""
    doc = sys.modules[kind.__module__].__doc__
    args = parse_args(kind, doc, argv)
    out = args.out or Path(f'work_dirs/study_{kind.name}')
    with report_errors():
        study = kind(out, args.amp)
        if args.csv is None:
            out.mkdir(parents=True, exist_ok=True)
            study.prepare()
            with only_call(study.out):
                check_settings(study)
                run_jobs(study, list_jobs(study, args), args.workers)
        path = args.csv or study.out / 'scores.csv'
        scores = read_scores(path)
        if not scores:
            raise FileNotFoundError(f'expected scores in {path}, got none')
        costs = []
        if 'scores' in path.name:
            name = path.name.replace('scores', 'costs')
            costs = read_costs(path.with_name(name))
        page = make_page(study, scores, costs)
        if args.csv is None or args.out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / 'tables.md').write_text(page, encoding='utf-8')
            plot_study(study, scores, out / 'scores.png')
    print(page, end='')
    return 0


@contextmanager
def only_call(out: Path) -> Iterator[None]:
    """Refuse a second call in the same folder, whose scores would be lost.

    Raises:
        ValueError: There is another call.
    """
    with (out / '.lock').open('w', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f'expected one call at a time in {out}, got a second one; '
                'wait, or give another --out'
            ) from error
        yield


def check_settings(study: Study) -> None:
    """Refuse to add scores to those of other settings.

    Raises:
        ValueError: The first call had another device, precision, version,
            dataset, config or teacher; or scores are without settings.
    """
    path = study.out / 'settings.json'
    now = study.fingerprint()
    before = {}
    if path.exists():
        before = json.loads(path.read_text(encoding='utf-8'))
    elif (study.out / 'scores.csv').exists():
        raise ValueError(
            f'expected {path} next to scores.csv, got no such file, so that '
            'the settings of the scores are unknown; give another --out, or '
            'print the tables with --csv'
        )
    differ = [
        f'{name} ({before[name]}, now {value})'
        for name, value in now.items()
        if before.get(name, value) != value
    ]
    if differ:
        raise ValueError(
            f'expected the settings of the first call in {study.out}, got '
            f'another {", ".join(differ)}; restore it, or give another --out'
        )
    # A teacher may have been trained since the first call.
    text = json.dumps({**before, **now}, indent=2)
    path.write_text(f'{text}\n', encoding='utf-8')


def parse_args(
    kind: Type[Study], doc: Optional[str], argv: Optional[List[str]]
) -> argparse.Namespace:
    """Parse the options of a study."""
    parser = script_parser(doc or '')
    parser.add_argument(
        '--methods', nargs='+', choices=kind.methods, metavar='METHOD',
        help=f'of {", ".join(kind.methods)} (default: all'
        + ''.join(f' but {name}' for name in kind.optional) + ')',
    )  # fmt: skip
    parser.add_argument(
        '--num-labels', type=parse_num_labels, nargs='+', metavar='N',
        choices=kind.num_iters,
        help=f'of {", ".join(map(str, kind.num_iters))} (default: all)',
    )  # fmt: skip
    parser.add_argument(
        '--seeds', type=positive_int,
        help='students of each method and number of labels (default: 3)',
    )  # fmt: skip
    parser.add_argument(
        '--workers', type=positive_int,
        help='processes, of one CPU thread each (default: one per CPU core)',
    )  # fmt: skip
    parser.add_argument(
        '--amp', action='store_true',
        help='train with mixed precision, as tools/train.py --amp',
    )  # fmt: skip
    parser.add_argument(
        '--out', type=Path,
        help='folder of runs, scores.csv, costs.csv, tables.md and scores.png '
        f'(default: work_dirs/study_{kind.name}); a second call adds what is '
        'missing there',
    )  # fmt: skip
    parser.add_argument(
        '--csv', type=Path,
        help='train nothing; print the tables of these scores, and write '
        'tables and figure if there is an --out',
    )  # fmt: skip
    args = parser.parse_args(argv)
    defaults = dict(
        methods=[name for name in kind.methods if name not in kind.optional],
        num_labels=[*kind.num_iters],
        seeds=3,
        workers=os.cpu_count(),
    )
    given = [name for name in (*defaults, 'amp') if getattr(args, name)]
    if args.csv and given:
        flags = ', '.join(f'--{name.replace("_", "-")}' for name in given)
        parser.error(
            f'expected no other options than --out with --csv, which '
            f'trains nothing, got {flags}; leave them out'
        )
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def list_jobs(study: Study, args: argparse.Namespace) -> List[Job]:
    """List the missing scores: all methods and seeds, few labels first."""
    known = {score[:3] for score in read_scores(study.out / 'scores.csv')}
    jobs = [
        Job(method, num_labels, seed)
        for num_labels in dict.fromkeys(args.num_labels)
        for seed in range(args.seeds)
        for method in dict.fromkeys(args.methods)
    ]
    return [job for job in jobs if job not in known]


def run_jobs(study: Study, jobs: Sequence[Job], workers: int) -> None:
    """Add the missing scores to scores.csv, in several processes.

    After an error, jobs that run are finished, and others are not started.
    """
    scores = read_scores(study.out / 'scores.csv')
    num_known = len(scores)

    def add(score: Score) -> None:
        scores.append(score)
        write_scores(study.out / 'scores.csv', scores)
        print(
            f'{len(scores) - num_known}/{len(jobs)}: {score.method}, '
            f'{score.num_labels} labels, seed {score.seed}: {score.score}',
            flush=True,
        )

    with ProcessPoolExecutor(
        workers,
        multiprocessing.get_context('spawn'),
        start_worker,
        (study.out,),
    ) as pool:
        running = [pool.submit(study.score, *job) for job in jobs]
        try:
            for future in as_completed(running):
                add(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for future in running:
                if future.cancelled() or future.exception() is not None:
                    continue
                if future.result() not in scores:
                    add(future.result())
            raise


def start_worker(out: Path) -> None:
    """Log to a file, and use one thread.

    Several threads round sums in another order, which changes the scores.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    enable_safe_loading()
    torch.set_num_threads(1)
    # mmengine collects garbage for each dataset, which need not look through
    # the imported modules each time.
    gc.freeze()
    log = (out / f'log_{os.getpid()}.txt').open('w', encoding='utf-8')
    sys.stdout = sys.stderr = log


def _end_with_parent() -> None:
    """End this process if the call is killed: the next one runs its job."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
