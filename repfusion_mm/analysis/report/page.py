"""Write the HTML page of a report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import List, Tuple

from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.analysis.report.checks import is_static, run_checks
from repfusion_mm.analysis.report.groups import Group, group_runs, natural
from repfusion_mm.analysis.report.runs import Run, read_run
from repfusion_mm.visualization import palette
from repfusion_mm.visualization.policy_log import moments

TEMPLATE = 'page.html.jinja'


def write_report(folders: List[Path], out: Path, title: str) -> List[str]:
    """Read work directories and write the page.

    Args:
        folders: Work directories.
        out: HTML file to write.
        title: Title of the page.

    Returns:
        For each folder that was skipped, why it cannot be read.

    Raises:
        ValueError: No folder can be read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    runs, distillations, skipped = [], [], []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        try:
            run = read_run(folder)
            shown = [_describe(run)] if run.records else []
        except Exception as error:  # files of other people hold anything
            skipped.append(_explain(folder, error))
            continue
        runs.append(run)
        distillations += shown
    if not runs:
        raise ValueError('\n'.join(skipped))
    page = _render(runs, distillations, title, skipped)
    out.write_text(page, encoding='utf-8')
    return skipped


def _explain(folder: Path, error: Exception) -> str:
    """Return why a folder was skipped, with its name."""
    if str(folder) in str(error):
        return str(error)
    return (
        f'expected the logs of a run in {folder}, got logs that cannot be '
        f'shown: {type(error).__name__}: {error}'
    )


def _render(
    runs: List[Run], distillations: List[dict], title: str, skipped: List[str]
) -> str:
    from jinja2 import Environment, FileSystemLoader

    groups = group_runs([run for run in runs if run.scores])
    metrics = dict.fromkeys(
        metric
        for group in groups
        for run in group.runs
        for metric in run.scores
    )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=title,
        written=datetime.now().strftime('%Y-%m-%d %H:%M'),
        skipped=skipped,
        distillations=sorted(
            distillations, key=lambda item: natural(str(item['run'].folder))
        ),
        tables=[_tabulate(groups, metric) for metric in metrics],
        groups=groups,
        last_scores=_last_scores,
        palette=palette,
    )


def _describe(run: Run) -> dict:
    """Return what the page shows of a distillation."""
    from repfusion_mm.analysis.report.figures import draw_losses, draw_policy

    checks = run_checks(run)
    last = run.records[-1]
    static = is_static(run.records)
    return dict(
        run=run,
        iterations=last['iter'],
        max_iters=last.get('max_iters', '?'),
        timestep=_describe_policy(run.records),
        static=static,
        warnings=[c.warning for c in checks if c.warning],
        passed=[c.passed for c in checks if not c.warning and not c.skipped],
        skipped=[f'{c.passed} ({c.skipped})' for c in checks if c.skipped],
        policy=None if static else draw_policy(run),
        losses=draw_losses(run) if run.curves else None,
    )


def _describe_policy(records: List[dict]) -> str:
    timesteps = records[-1]['timesteps']
    if len(timesteps) == 1:
        return f'{timesteps[0]}, fixed'
    if is_static(records):
        return f'{timesteps[0]} to {timesteps[-1]}, uniform'
    mean, std = moments(records[-1])
    return f'{mean:.0f} ± {std:.0f}'


def _tabulate(groups: List[Group], metric: str) -> dict:
    """Return the table of one metric."""
    from repfusion_mm.analysis.report.figures import draw_groups

    rows = []
    for group in groups:
        scores = group.scores(metric)
        if not scores:
            continue
        mean, half_width = confidence_interval(scores)
        # Percentages with two decimals, shares with four.
        digits = 2 if max(map(abs, scores)) > 1.5 else 4
        several = len(scores) > 1
        low, high = min(scores), max(scores)
        rows.append(
            dict(
                label=group.label,
                seeds=', '.join(run.seed for run in group.runs),
                mean=f'{mean:.{digits}f}',
                half_width=f'± {half_width:.{digits}f}' if several else '',
                low=f'{low:.{digits}f}' if several else '',
                high=f'{high:.{digits}f}' if several else '',
            )
        )
    return dict(metric=metric, rows=rows, figure=draw_groups(groups, metric))


def _last_scores(run: Run) -> List[Tuple[str, int, float, float]]:
    """Return for each metric the iteration and value of the last validation,
    and the highest value of all."""
    return [
        (metric, *curve[-1], max(value for _, value in curve))
        for metric, curve in run.scores.items()
    ]
