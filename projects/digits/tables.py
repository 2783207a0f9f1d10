"""Scores of the evidence as a CSV file and as Markdown tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Dict, Hashable, List, NamedTuple, Optional

import numpy as np

from repfusion_mm.analysis.intervals import confidence_interval

#: All training images have a label.
ALL = 1297
#: Claim, method, the method that it exceeds, and by how much.
CLAIMS = (
    ('t of the best probe > t = 0', 'fixed_best', 'fixed_first', 0.0),
    ('t of the best probe > t = 999', 'fixed_best', 'fixed_last', 0.0),
    (
        'learned t is at most 1 point below t of the best probe',
        'learned',
        'fixed_best',
        -0.01,
    ),
    (
        't of the probe of the same labels > t of the best probe, '
        'half-labeled batches',
        'fixed_probe',
        'fixed_same_draws',
        0.0,
    ),
    (
        'learned t > t of the best probe, half-labeled batches',
        'learned',
        'fixed_same_draws',
        0.0,
    ),
    (
        'learned t > t of the probe of the same labels',
        'learned',
        'fixed_probe',
        0.0,
    ),
    *(
        (f'learned t, {change} > {other}', method, key, 0.0)
        for method, change in (
            ('learned_prior', 'started from the probe'),
            ('learned_marginal', 'without the image'),
            ('learned_ridge', 'rewarded by the probe'),
            ('learned_pairs', 'two draws'),
        )
        for key, other in (
            ('learned', 'learned t'),
            ('fixed_probe', 't of the probe'),
        )
    ),
    ('learned t > uniform t', 'learned', 'uniform', 0.0),
    ('learned t > from scratch', 'learned', 'scratch', 0.0),
    ('learned t, latent teacher > from scratch', 'latent', 'scratch', 0.0),
)


class Score(NamedTuple):
    """The test accuracy of one student.

    Attributes:
        timestep: Timestep of the teacher; with a learned policy, its mean at
            the end of the distillation.
    """

    method: str
    num_labels: int
    padding: int
    seed: int
    accuracy: float
    timestep: Optional[float]


#: Accuracies by (method, padding, number of labels), then by seed.
Cells = Dict[tuple, Dict[int, float]]


def read_scores(path: Path) -> List[Score]:
    with path.open(newline='', encoding='utf-8') as file:
        _, *rows = csv.reader(file)
    return [
        Score(row[0], *map(int, row[1:4]), float(row[4]),
              float(row[5]) if row[5] else None)
        for row in rows
    ]  # fmt: skip


def write_scores(path: Path, scores: List[Score]) -> None:
    """Write all scores atomically, sorted by method, labels and seed."""
    rows = sorted(scores, key=lambda score: score[:4])
    unfinished = path.with_name(path.name + '.tmp')
    with unfinished.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([Score._fields, *rows])
    unfinished.replace(path)


def make_page(scores: List[Score], titles: Dict[str, str]) -> str:
    """Return the tables as Markdown.

    Args:
        scores: All scores; other methods than those of ``titles`` are left
            out.
        titles: Title by method, in the order of the rows.
    """
    budgets = sorted({s.num_labels for s in scores})
    cells: Cells = {}
    for s in scores:
        cell = cells.setdefault((s.method, s.padding, s.num_labels), {})
        cell[s.seed] = s.accuracy
    accuracies, claims = {}, {}
    for padding in sorted({s.padding for s in scores}):
        shifts = f', shifts of up to {padding} pixel' if padding else ''
        for method, title in titles.items():
            accuracies[title + shifts] = [
                format_accuracy(cells, method, padding, n) for n in budgets
            ]
        for claim, *arguments in CLAIMS:
            claims[claim + shifts] = [
                check_claim(cells, *arguments, padding, n) for n in budgets
            ]
    timesteps = {
        title: [format_timesteps(scores, method, n) for n in budgets]
        for method, title in titles.items()
    }
    tables = {
        'accuracy (%)': accuracies,
        'claim': claims,
        'mean t (min - max)': timesteps,
    }
    return '\n'.join(
        to_markdown(name, budgets, rows) for name, rows in tables.items()
    )


def format_accuracy(cells: Cells, *key: Hashable) -> str:
    """Return mean and interval, and how many seeds if some are missing."""
    if key not in cells:
        return ''
    by_seed = cells[key]
    mean, half = confidence_interval([*by_seed.values()])
    missing = len(by_seed) < max(map(len, cells.values()))
    seeds = f' ({len(by_seed)} seeds)' if missing else ''
    return f'{100 * mean:.1f} ± {100 * half:.1f}{seeds}'


def check_claim(
    cells: Cells, method: str, other: str, margin: float, *setting: int
) -> str:
    """Compare two methods seed by seed.

    Args:
        cells: All accuracies.
        method: Method that the claim prefers.
        other: Method to compare with.
        margin: Difference that the claim states, as a fraction.
        setting: Padding and number of labels.

    Returns:
        Verdict, mean difference and half width of its 95% interval, in
        points. Empty if fewer than two seeds have both methods.
    """
    ours, theirs = (cells.get((m, *setting), {}) for m in (method, other))
    gains = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if len(gains) < 2:
        return ''
    mean, half = confidence_interval(gains)
    verdict = 'open'
    if abs(mean - margin) > half:
        verdict = 'yes' if mean > margin else '**no**'
    return f'{verdict}: {100 * mean:+.1f} ± {100 * half:.1f}'


def format_timesteps(scores: List[Score], method: str, num_labels: int) -> str:
    """Return mean and range of the timesteps over the seeds."""
    t = {
        s.seed: s.timestep
        for s in scores
        if s[:2] == (method, num_labels) and s.timestep is not None
    }.values()
    if not t:
        return ''
    ends = f' ({min(t):.0f} - {max(t):.0f})' if len({*t}) > 1 else ''
    return f'{np.mean([*t]):.0f}{ends}'


def to_markdown(
    name: str, budgets: List[int], rows: Dict[str, List[str]]
) -> str:
    """Return a table without its empty rows."""
    table = [
        [name, *('all' if n == ALL else str(n) for n in budgets)],
        ['---'] * (1 + len(budgets)),
        *([title, *cells] for title, cells in rows.items() if any(cells)),
    ]
    return ''.join(f'| {" | ".join(row)} |\n' for row in table)
