"""The scores of a study as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
from matplotlib.figure import Figure

from projects.study.methods import PROBE
from projects.study.scores import Score, order
from projects.study.study import Study
from projects.study.tables import collect
from repfusion_mm.visualization.palette import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY_BLUE,
    VERMILION,
)

#: Of the methods that are shown; others are only in the tables.
COLORS = dict(
    command=BLUE,
    fixed_best=BLUE,
    scratch='gray',
    learned=ORANGE,
    uniform=GREEN,
    fixed_first=PINK,
    fixed_last=SKY_BLUE,
    selfsup=VERMILION,
)


def plot_study(study: Study, scores: Sequence[Score], path: Path) -> None:
    """Draw score over labels, and score over timestep.

    The left part shows means and ranges over the seeds. The right part shows
    each student with the fewest labels at its timestep.

    Args:
        study: Names of methods and score.
        scores: Of all methods.
        path: PNG file to write.
    """
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    _plot_budgets(left, study, scores)
    _plot_timesteps(right, study, scores)
    for axes in (left, right):
        smaller = ', smaller is better' if study.is_error else ''
        axes.set_ylabel(f'{study.score_name} (%){smaller}')
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='y', alpha=0.3)
        axes.legend(frameon=False, fontsize='small')
    figure.savefig(path, dpi=150)


def _plot_budgets(axes, study: Study, scores: Sequence[Score]) -> None:
    budgets = sorted({s.num_labels for s in scores}, key=order)
    cells = collect(scores)
    for method, color in COLORS.items():
        points = [
            (i, 100 * np.array([*cells[method, n].values()]))
            for i, n in enumerate(budgets)
            if (method, n) in cells
        ]
        if not points:
            continue
        x = [i for i, _ in points]
        axes.plot(
            x, [values.mean() for _, values in points], 'o-', color=color,
            label=study.methods[method].title,
        )  # fmt: skip
        axes.fill_between(
            x, [values.min() for _, values in points],
            [values.max() for _, values in points], color=color, alpha=0.2,
        )  # fmt: skip
    axes.set_xticks(range(len(budgets)), map(str, budgets))
    axes.set(xlabel='labeled images')
    axes.set_title(f'{study.title}; band: range of the seeds', size='medium')


def _plot_timesteps(axes, study: Study, scores: Sequence[Score]) -> None:
    fewest = min((s.num_labels for s in scores), key=order)
    for name, color in COLORS.items():
        points = [s for s in scores if s[:2] == (name, fewest)]
        if not points:
            continue
        values = 100 * np.array([s.score for s in points])
        title = study.methods[name].title
        if name == 'scratch':
            axes.axhline(values.mean(), color=color, ls='--', label=title)
        elif points[0].timestep is not None:
            # A ring around a point: students of the same fixed timestep and
            # seed are the same.
            probe = study.methods[name].timestep == PROBE
            axes.plot(
                [s.timestep for s in points], values, 'o', alpha=0.8,
                markersize=10 if probe else 6,
                fillstyle='none' if probe else 'full',
                color=color, label=title,
            )  # fmt: skip
    axes.set(xlabel='timestep', xlim=(-20, 1020))
    axes.set_title(f'{fewest} labels; a point per seed', size='medium')
