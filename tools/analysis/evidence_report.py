"""What the runs of evidence.py say: tables, claims, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple

import numpy as np
from evidence_methods import METHODS
from evidence_runs import ALL, Score
from matplotlib.figure import Figure

from repfusion_mm.analysis.intervals import confidence_interval

# Okabe-Ito: told apart in print and by colour-blind readers.
LINES = dict(
    scratch=('#E69F00', 's--'),
    fixed_first=('#56B4E9', 'v:'),
    fixed_last=('#000000', '^:'),
    uniform=('#CC79A7', 'd-.'),
    fixed_best=('#009E73', 'P-'),
    learned=('#0072B2', 'o-'),
)
#: Accuracy by seed.
BySeed = Dict[int, float]
ONE_POINT = 0.01


class Claim(NamedTuple):
    """``ours`` is better than ``other`` by more than ``margin``."""

    text: str
    ours: str
    other: str
    margin: float = 0.0


CLAIMS = (
    Claim('An intermediate t beats the start', 'fixed_best', 'fixed_first'),
    Claim('An intermediate t beats the end', 'fixed_best', 'fixed_last'),
    Claim(
        "The policy is within one point of the probe's best t",
        'learned', 'fixed_best', -ONE_POINT,
    ),
    Claim('The policy beats uniform t', 'learned', 'uniform'),
    Claim('RepFusion beats scratch', 'learned', 'scratch'),
)  # fmt: skip


def table(scores: List[Score], padding: int) -> Dict[tuple, BySeed]:
    """Return the accuracies of each method and number of labels."""
    cells: Dict[tuple, BySeed] = {}
    for s in scores:
        if s.padding == padding:
            cells.setdefault((s.method, s.num_labels), {})[s.seed] = s.accuracy
    return cells


def judge(claim: Claim, ours: BySeed, other: BySeed) -> str:
    """Compare seed by seed, and say what becomes of a claim.

    Returns:
        Nothing where there are no two seeds that both have.
    """
    gains = [ours[seed] - other[seed] for seed in ours if seed in other]
    if len(gains) < 2:
        return ''
    mean, half = confidence_interval(gains)
    if mean - half > claim.margin:
        verdict = 'yes'
    elif mean + half < claim.margin:
        verdict = '**no**'
    else:
        verdict = 'open'
    return f'{verdict}: {100 * mean:+.1f} ± {100 * half:.1f}'


def make_page(scores: List[Score]) -> str:
    """Return the tables as Markdown."""
    budgets = sorted({s.num_labels for s in scores})
    page = []
    for padding in sorted({s.padding for s in scores}):
        cells = table(scores, padding)
        shifts = f'shifted by up to {padding} pixel' if padding else 'as it is'
        page.append(f'### Finetuned on each image {shifts}\n')
        page.append(markdown(budgets, accuracy_rows(cells, budgets)))
        page.append(markdown(budgets, claim_rows(cells, budgets)))
    page.append('### Timesteps\n')
    page.append(markdown(budgets, timestep_rows(scores, budgets)))
    return '\n'.join(page)


def markdown(budgets: List[int], rows: List[List[str]]) -> str:
    """Return a table, without the rows that hold nothing."""
    names = ['all' if n == ALL else str(n) for n in budgets]
    rule = ['---'] * (1 + len(names))
    rows = [['', *names], rule, *(row for row in rows if any(row[1:]))]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def accuracy_rows(
    cells: Dict[tuple, BySeed], budgets: List[int]
) -> List[List[str]]:
    """Return a row for each method; it says so where seeds are missing."""
    most = max(len(by_seed) for by_seed in cells.values())
    rows = []
    for method, (title, *_) in METHODS.items():
        row = [title]
        for n in budgets:
            by_seed = cells.get((method, n))
            cell = ''
            if by_seed:
                mean, half = confidence_interval([*by_seed.values()])
                cell = f'{100 * mean:.1f} ± {100 * half:.1f}'
                if len(by_seed) < most:
                    cell += f' ({len(by_seed)} seeds)'
            row.append(cell)
        rows.append(row)
    return rows


def claim_rows(
    cells: Dict[tuple, BySeed], budgets: List[int]
) -> List[List[str]]:
    """Return a row for each claim, with what becomes of it."""
    return [
        [claim.text]
        + [
            judge(
                claim,
                cells.get((claim.ours, n), {}),
                cells.get((claim.other, n), {}),
            )
            for n in budgets
        ]
        for claim in CLAIMS
    ]


def timestep_rows(scores: List[Score], budgets: List[int]) -> List[List[str]]:
    """Return a row for each method that says where it ended."""
    rows = []
    for method, (title, *_) in METHODS.items():
        row = [title]
        for n in budgets:
            t = [
                s.timestep
                for s in {s.seed: s for s in scores
                          if (s.method, s.num_labels) == (method, n)}.values()
                if s.timestep is not None
            ]  # fmt: skip
            ends = f' ({min(t):.0f} - {max(t):.0f})' if len(set(t)) > 1 else ''
            row.append(f'{np.mean(t):.0f}{ends}' if t else '')
        rows.append(row)
    return rows


def draw(scores: List[Score], path: Path) -> None:
    """Draw accuracy over the number of labels, a panel for each padding."""
    paddings = sorted({s.padding for s in scores})
    figure = Figure(figsize=(1 + 4 * len(paddings), 4), layout='constrained')
    panels = figure.subplots(1, len(paddings), sharey=True, squeeze=False)[0]
    for axes, padding in zip(panels, paddings):
        cells = table(scores, padding)
        budgets = sorted({n for _, n in cells})
        for i, (method, (color, style)) in enumerate(LINES.items()):
            known = [n for n in budgets if (method, n) in cells]
            if not known:
                continue
            mean, half = np.array(
                [
                    confidence_interval([*cells[method, n].values()])
                    for n in known
                ]
            ).T
            # Beside each other, as bars hide bars.
            beside = np.array(known) * 1.03 ** (i - len(LINES) / 2)
            axes.errorbar(beside, 100 * mean, 100 * half, fmt=style, ms=4,
                          color=color, capsize=2, lw=1.2,
                          label=METHODS[method].title)  # fmt: skip
        shifts = f'shifts of up to {padding} pixel' if padding else 'no shifts'
        axes.set(xscale='log', xticks=budgets)
        axes.set(xlabel='labelled images', title=shifts)
        axes.set_xticklabels([str(n) for n in budgets])
        axes.minorticks_off()
        axes.title.set_size('medium')
        axes.grid(axis='y', alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('test accuracy, % (bars: 95% interval)')
    panels[0].legend(frameon=False, fontsize='small', loc='lower right')
    figure.savefig(path, dpi=150)
