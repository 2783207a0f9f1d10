"""The scores of a study as Markdown tables."""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence

import numpy as np

from projects.study.methods import Claim
from projects.study.scores import Cost, NumLabels, Score, order
from projects.study.study import Study
from repfusion_mm.analysis.intervals import confidence_interval

#: Scores by method and number of labels, then by seed.
Cells = Dict[tuple, Dict[int, float]]


def make_page(
    study: Study, scores: Sequence[Score], costs: Sequence[Cost]
) -> str:
    """Return the tables of scores, claims, timesteps and costs.

    Raises:
        ValueError: There are scores of unknown methods.
    """
    titles = {name: method.title for name, method in study.methods.items()}
    titles.update(study.removed)
    unknown = sorted({s.method for s in scores} - {*titles})
    if unknown:
        raise ValueError(
            f'expected scores of {[*titles]}, got {unknown}; remove '
            'their lines'
        )
    budgets = sorted({s.num_labels for s in scores}, key=order)
    cells = collect(scores)
    rows = {
        f'{study.score_name} (%)': {
            title: [format_score(cells, name, n) for n in budgets]
            for name, title in titles.items()
        },
        'claim': {
            claim.text: [
                check_claim(cells, claim, n, study.is_error) for n in budgets
            ]
            for claim in study.claims
        },
        'timestep, mean (min - max)': {
            title: [format_timesteps(scores, name, n) for n in budgets]
            for name, title in titles.items()
        },
    }
    tables = [
        to_markdown(name, budgets, table) for name, table in rows.items()
    ]
    tables.append(format_costs(costs))
    return '\n'.join(table for table in tables if table)


def collect(scores: Iterable[Score]) -> Cells:
    """Return the scores by method and number of labels, then by seed."""
    cells: Cells = {}
    for s in scores:
        cells.setdefault((s.method, s.num_labels), {})[s.seed] = s.score
    return cells


def format_score(cells: Cells, method: str, num_labels: NumLabels) -> str:
    """Return mean and interval, and how many seeds if some are missing."""
    by_seed = cells.get((method, num_labels))
    if not by_seed:
        return ''
    most = max(map(len, cells.values()))
    seeds = f' ({len(by_seed)} of {most} seeds)' * (len(by_seed) < most)
    return to_percent(*confidence_interval([*by_seed.values()])) + seeds


def to_percent(mean: float, half_width: float, sign: str = '') -> str:
    """Return mean and half width of its interval, which one seed has not."""
    text = f'{100 * mean:{sign}.1f}'
    return text if np.isnan(half_width) else f'{text} ± {100 * half_width:.1f}'


def check_claim(
    cells: Cells, claim: Claim, num_labels: NumLabels, is_error: bool
) -> str:
    """Compare two methods seed by seed.

    Returns:
        Verdict, mean difference and half width of its 95% interval, in
        points, positive if the claimed method is better. Empty if fewer than
        two seeds have both methods.
    """
    gains = paired_gains(cells, claim.method, claim.other, num_labels)
    if len(gains) < 2:
        return ''
    if is_error:
        gains = -gains
    mean, half = confidence_interval(gains)
    verdict = 'open'
    if abs(mean - claim.margin) > half:
        verdict = 'yes' if mean > claim.margin else '**no**'
    return f'{verdict}: {to_percent(mean, half, "+")}'


def paired_gains(
    cells: Cells, method: str, other: str, num_labels: NumLabels
) -> np.ndarray:
    """Return score minus score of another method, seed by seed."""
    ours, theirs = (cells.get((m, num_labels), {}) for m in (method, other))
    return np.array([ours[seed] - theirs[seed] for seed in sorted(
        {*ours} & {*theirs}
    )])  # fmt: skip


def format_timesteps(
    scores: Iterable[Score], method: str, num_labels: NumLabels
) -> str:
    """Return mean and range of the timesteps over the seeds."""
    timesteps = [
        s.timestep
        for s in scores
        if s[:2] == (method, num_labels) and s.timestep is not None
    ]
    if not timesteps:
        return ''
    low, high = min(timesteps), max(timesteps)
    ends = f' ({low:.0f} - {high:.0f})' if high > low else ''
    return f'{np.mean(timesteps):.0f}{ends}'


def format_costs(costs: Sequence[Cost]) -> str:
    """Return the time of each step, by device."""
    rows = {}
    for key in sorted({(c.step, c.iterations, c.device) for c in costs}):
        step, iterations, device = key
        seconds = [
            c.seconds for c in costs if (c.step, c.iterations, c.device) == key
        ]
        name = f'{step}, {iterations} iterations' if iterations else step
        rows[f'{name} ({device})'] = [
            str(len(seconds)),
            f'{np.median(seconds):.0f}',
            f'{sum(seconds) / 3600:.1f}',
        ]
    head = ['runs', 'median seconds', 'hours of all']
    return to_markdown('step', head, rows) if rows else ''


def to_markdown(
    name: str, head: Sequence[object], rows: Dict[str, List[str]]
) -> str:
    """Return a table without its empty rows; nothing if all are empty."""
    filled = [[title, *cells] for title, cells in rows.items() if any(cells)]
    if not filled:
        return ''
    table = [[name, *map(str, head)], ['---'] * (1 + len(head)), *filled]
    return ''.join(f'| {" | ".join(row)} |\n' for row in table)
