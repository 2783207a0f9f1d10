"""Write the HTML page of a report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Callable, List

import numpy as np

from repfusion_mm.analysis.intervals import confidence_interval
from repfusion_mm.analysis.report.checks import is_static, run_checks
from repfusion_mm.analysis.report.comparison import (
    compare_with_scratch,
    is_lower_better,
)
from repfusion_mm.analysis.report.groups import Group, group_runs, natural
from repfusion_mm.analysis.report.runs import (
    Run,
    iteration_of,
    read_run,
    set_titles,
)
from repfusion_mm.analysis.report.teachers import find_export, read_progress
from repfusion_mm.visualization import palette
from repfusion_mm.visualization.policy_log import moments, plot_records


def write_report(folders: List[Path], out: Path, title: str) -> List[str]:
    """Read work directories and write the page.

    Returns:
        For each folder that was skipped, why it cannot be read.

    Raises:
        ValueError: No folder can be read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    runs, items, skipped = [], [], []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        try:
            run = read_run(folder)
            shown = [_describe(run)] if run.records or run.is_teacher else []
        except Exception as error:  # files of other people hold anything
            reason = str(error)
            if str(folder) not in reason:
                reason = (
                    f'expected the logs of a run in {folder}, got logs that '
                    f'cannot be shown: {type(error).__name__}: {error}'
                )
            skipped.append(reason)
            continue
        runs.append(run)
        items += shown
    if not runs:
        raise ValueError('\n'.join(skipped))
    set_titles(runs)
    # Teachers come first.
    items.sort(key=lambda item: natural(str(item['run'].folder)))
    items.sort(key=lambda item: not item['run'].is_teacher)
    page = _render(runs, items, title=title, skipped=skipped)
    out.write_text(page, encoding='utf-8')
    return skipped


def _render(runs: List[Run], items: List[dict], **variables) -> str:
    from jinja2 import Environment, FileSystemLoader

    groups = group_runs([run for run in runs if run.scores])
    metrics = dict.fromkeys(
        name for group in groups for run in group.runs for name in run.scores
    )
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template('page.html.jinja').render(
        written=datetime.now().strftime('%Y-%m-%d %H:%M'),
        items=items,
        is_lower_better=is_lower_better,
        tables=[_tabulate(groups, metric) for metric in metrics],
        groups=groups,
        palette=palette,
        **variables,
    )


def _describe(run: Run) -> dict:
    """Return what the page shows of a distillation or a teacher."""
    from repfusion_mm.analysis.report.figures import draw_losses

    checks = run_checks(run)
    describe: Callable[[Run], dict] = (
        _describe_teacher if run.is_teacher else _describe_distillation
    )
    return dict(
        run=run,
        num_checks=len(checks),
        warnings=[c.warning for c in checks if c.warning],
        passed=[c.passed for c in checks if not c.warning and not c.skipped],
        skipped=[f'{c.passed} ({c.skipped})' for c in checks if c.skipped],
        losses=draw_losses(run) if run.curves else None,
        **describe(run),
    )


def _describe_teacher(run: Run) -> dict:
    from repfusion_mm.analysis.report.figures import embed

    seconds = [value for _, value in run.curves.get('time', [])]
    # The first and the newest.
    pictures = dict.fromkeys([*run.pictures[:1], *run.pictures[-1:]])
    return dict(
        progress=read_progress(run),
        seconds=f'{np.median(seconds):.3g}' if seconds else None,
        export=find_export(run),
        pictures=[(iteration_of(p), embed(p)) for p in pictures],
    )


def _describe_distillation(run: Run) -> dict:
    from repfusion_mm.analysis.report.figures import embed, encode

    probe_picture = run.folder / 'probe.png'
    last = run.records[-1]
    timesteps, static = last['timesteps'], is_static(run.records)
    if len(timesteps) == 1:
        timestep = f'{timesteps[0]}, fixed'
    elif static:
        timestep = f'{timesteps[0]} to {timesteps[-1]}, uniform'
    else:
        timestep = '{:.0f} ± {:.0f}'.format(*moments(last))
    policy = None
    if not static:
        policy = encode(plot_records(run.records, *(run.probe or ())))
    explained = last.get('explained_variance')
    return dict(
        progress=f'{last["iter"]} of {last.get("max_iters", "?")} iterations',
        timestep=timestep,
        explained=None if explained is None else f'{max(explained, 0):.0%}',
        policy=policy,
        probe_picture=(
            embed(probe_picture) if probe_picture.exists() else None
        ),
    )


def _tabulate(groups: List[Group], metric: str) -> dict:
    """Return the table of one metric."""
    from repfusion_mm.analysis.report.figures import draw_groups

    rows = []
    for group in groups:
        scores = group.scores(metric)
        if not any(metric in run.scores for run in group.runs):
            continue
        texts = ['', '', '', '']
        if scores:
            numbers = [*confidence_interval(scores), min(scores), max(scores)]
            # Percentages with two decimals, shares with four.
            digits = 2 if max(map(abs, scores)) > 1.5 else 4
            texts = [f'{number:.{digits}f}' for number in numbers]
        if len(scores) == 1:  # no interval and no range
            texts[1:] = ['', '', '']
        scored = group.scored(metric)
        seeds = ', '.join(run.seed for run in scored)
        left_out = [run.seed for run in group.runs if run not in scored]
        if left_out:
            seeds += f' (not complete, left out: {", ".join(left_out)})'
        rows.append(dict(label=group.label, seeds=seeds, numbers=texts))
    return dict(
        metric=metric,
        rows=rows,
        figure=(
            draw_groups(groups, metric)
            if any(group.scores(metric) for group in groups)
            else None
        ),
        comparisons=compare_with_scratch(groups, metric),
    )
