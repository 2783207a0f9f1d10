"""Make one page of distillations and of the finetunings that follow.

    report.py work_dirs/repfusion_r18_digits work_dirs/resnet18-*_digits

Each argument is the work directory of a run. Distillations are shown one by
one: what the policy did, beside the probe where probe.csv is in the folder,
losses, warnings, versions and configuration. Runs with validation scores are
compared; those that differ by their seed alone share a row. The page needs no
network. Folders that cannot be read are named on it, and the exit status is 1.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from intervals import interval
from jinja2 import Environment, FileSystemLoader
from report_figures import draw_groups, draw_losses, draw_policy
from report_groups import Group, compare, natural
from report_runs import Run, read_run
from report_warnings import check, is_still

from repfusion_mm.visualization.policy_log import moments

TEMPLATE = 'report.html.jinja'


def describe(run: Run) -> dict:
    """Return what the page shows of a distillation."""
    checks = check(run)
    last = run.records[-1]
    return dict(
        run=run,
        iterations=last['iter'],
        planned=last.get('max_iters', '?'),
        timestep=describe_policy(run.records),
        still=is_still(run.records),
        warnings=[c.warning for c in checks if c.warning],
        passed=[c.passed for c in checks if not c.warning and not c.skipped],
        skipped=[f'{c.passed}: {c.skipped}' for c in checks if c.skipped],
        policy=None if is_still(run.records) else draw_policy(run),
        losses=draw_losses(run) if run.curves else None,
    )


def describe_policy(records: List[dict]) -> str:
    timesteps = records[-1]['timesteps']
    if len(timesteps) == 1:
        return f'{timesteps[0]}, fixed'
    if is_still(records):
        return f'{timesteps[0]} to {timesteps[-1]}, uniform'
    mean, std = moments(records[-1])
    return f'{mean:.0f}, deviation {std:.0f}'


def tabulate(groups: List[Group], metric: str) -> dict:
    """Return the table of one metric."""
    rows = []
    for group in groups:
        scores = group.scores(metric)
        if not scores:
            continue
        mean, half = interval(scores)
        # Percentages with two decimals, shares with four.
        digits = 2 if max(map(abs, scores)) > 1.5 else 4
        several = len(scores) > 1
        low, high = min(scores), max(scores)
        rows.append(
            dict(
                label=group.label,
                seeds=', '.join(run.seed for run in group.runs),
                mean=f'{mean:.{digits}f}',
                half=f'± {half:.{digits}f}' if several else '',
                low=f'{low:.{digits}f}' if several else '',
                high=f'{high:.{digits}f}' if several else '',
            )
        )
    return dict(metric=metric, rows=rows, figure=draw_groups(groups, metric))


def list_scores(run: Run) -> List[Tuple[str, int, float, float]]:
    """Return each metric with iteration and value of the last validation,
    and the largest value of all."""
    return [
        (metric, *curve[-1], max(value for _, value in curve))
        for metric, curve in run.scores.items()
    ]


def make_page(
    runs: List[Run], distilled: List[dict], title: str, left_out: List[str]
) -> str:
    """Return the page of all runs.

    Args:
        runs: All that could be read.
        distilled: What is shown of those that are distillations.
        title: Of the page.
        left_out: Why others could not be read.
    """
    groups = compare([run for run in runs if run.scores])
    metrics: Dict[str, None] = {
        metric: None
        for group in groups
        for run in group.runs
        for metric in run.scores
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=title,
        written=datetime.now().strftime('%Y-%m-%d %H:%M'),
        left_out=left_out,
        runs=sorted(
            distilled, key=lambda item: natural(str(item['run'].folder))
        ),
        tables=[tabulate(groups, metric) for metric in metrics],
        groups=groups,
        list_scores=list_scores,
    )


def write_report(folders: List[Path], out: Path, title: str) -> List[str]:
    """Read work directories and write the page.

    Returns:
        Why folders were left out.

    Raises:
        ValueError: None could be read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    runs, distilled, left_out = [], [], []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        try:
            run = read_run(folder)
            shown = [describe(run)] if run.records else []
        except Exception as error:  # a stranger's files may hold anything
            left_out.append(explain(folder, error))
            continue
        runs.append(run)
        distilled += shown
    if not runs:
        raise ValueError('\n'.join(left_out))
    page = make_page(runs, distilled, title, left_out)
    out.write_text(page, encoding='utf-8')
    return left_out


def explain(folder: Path, error: Exception) -> str:
    """Return why a folder was left out, with its name."""
    if str(folder) in str(error):
        return str(error)
    return (
        f'expected the logs of a run in {folder}, got some that cannot be '
        f'shown: {type(error).__name__}: {error}'
    )


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('work_dirs', type=Path, nargs='+', help='of runs')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('report.html'),
        help='HTML file to write (default: %(default)s)',
    )
    parser.add_argument(
        '--title', default='RepFusion', help='of the page (%(default)s)'
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.html':
        parser.error(f'expected --out to end in .html, got {args.out}')
    left_out = write_report(args.work_dirs, args.out, args.title)
    size = args.out.stat().st_size / 2**20
    print(f'{args.out}: {size:.1f} MiB')
    if left_out:
        sys.exit('error: left out:\n' + '\n'.join(left_out))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
