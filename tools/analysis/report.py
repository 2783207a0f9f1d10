"""Make one page of distillations and of the finetunings that follow.

    report.py work_dirs/repfusion_r18_digits work_dirs/resnet18-*_digits

Each argument is the work directory of a run. Distillations are shown one by
one: what the policy did, beside the probe where probe.csv is in the folder,
losses, warnings, versions and configuration. Runs with validation scores are
compared; those that differ by their seed alone share a row. The page
(report.html unless --out says otherwise) needs no network.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Dict, List, Optional

from intervals import interval
from jinja2 import Template
from report_figures import draw_groups, draw_losses, draw_policy
from report_runs import Group, Run, compare, read_run
from report_warnings import check

from repfusion_mm.engine.policy_records import moments

TEMPLATE = Path(__file__).with_suffix('.html.jinja')


def describe(run: Run) -> dict:
    """Return what the page shows of a distillation."""
    mean, std = moments(run.records[-1])
    fixed = len(run.records[-1]['timesteps']) == 1
    checks = check(run)
    return dict(
        folder=str(run.folder),
        iterations=run.records[-1]['iter'],
        timestep=f'{mean:.0f} (fixed)' if fixed else f'{mean:.0f} ± {std:.0f}',
        warnings=[c.warning for c in checks if c.warning],
        passed='; '.join(c.passed for c in checks if not c.warning),
        policy=draw_policy(run),
        has_probe=run.probe is not None,
        losses=draw_losses(run) if run.curves else None,
        versions=run.versions,
        settings=run.settings,
    )


def name_groups(groups: List[Group]) -> List[str]:
    """Return a short label for each group: its config, and what differs."""
    labels = [', '.join([group.name, *group.visible()]) for group in groups]
    # Where that is not enough, their number.
    return [
        f'{label} #{labels[:i].count(label) + 1}'
        if labels.count(label) > 1
        else label
        for i, label in enumerate(labels)
    ]


def tabulate(groups: List[Group], labels: List[str], metric: str) -> dict:
    """Return the table of one metric."""
    rows = []
    for group, label in zip(groups, labels):
        scores = group.results.get(metric, [])
        if not scores:
            continue
        mean, half = interval(scores)
        sure = f' ± {half:.2g}' if len(scores) > 1 else ''
        rows.append(
            dict(
                label=label,
                count=len(scores),
                mean=f'{mean:.4g}{sure}',
                spread=f'{min(scores):.4g} - {max(scores):.4g}',
            )
        )
    return dict(
        metric=metric, rows=rows, figure=draw_groups(groups, labels, metric)
    )


def make_page(runs: List[Run], title: str) -> str:
    """Return the page of all runs."""
    groups = compare([run for run in runs if run.results])
    labels = name_groups(groups)
    metrics: Dict[str, None] = {
        metric: None for group in groups for metric in group.results
    }
    template = Template(
        TEMPLATE.read_text(), autoescape=True, trim_blocks=True
    )
    return template.render(
        title=title,
        written=datetime.now().strftime('%Y-%m-%d %H:%M'),
        runs=[describe(run) for run in runs if run.records],
        tables=[tabulate(groups, labels, metric) for metric in metrics],
        legend=[
            (label, group.differs) for label, group in zip(labels, groups)
        ],
    )


def write_report(folders: List[Path], out: Path, title: str) -> None:
    """Read work directories and write the page."""
    page = make_page([read_run(folder) for folder in folders], title)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding='utf-8')


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('work_dirs', type=Path, nargs='+', help='of runs')
    parser.add_argument('--out', type=Path, default=Path('report.html'))
    parser.add_argument('--title', default='RepFusion')
    args = parser.parse_args(argv)
    write_report(args.work_dirs, args.out, args.title)
    size = args.out.stat().st_size / 2**20
    print(f'{args.out}: {len(args.work_dirs)} runs, {size:.1f} MiB')


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
