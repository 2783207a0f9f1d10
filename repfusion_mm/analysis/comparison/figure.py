"""The picture of a comparison of teachers: score over cost."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from repfusion_mm.analysis.comparison.results import (
    Point,
    group_teachers,
    select_within_one_se,
)
from repfusion_mm.visualization.palette import PALETTE

MARKERS = 'osD^v'
STYLES = ('--', ':')


def draw_comparison(
    points: Sequence[Point],
    baselines: Sequence[Point],
    metric: str,
    path: Path,
) -> None:
    """Draw all points, and the best of each layer with its standard error.

    A circle marks the cheapest point of a teacher among those within one
    standard error of its highest mean.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure((7.2, 4), layout='constrained')
    axes = figure.subplots()
    for i, (name, teacher_points) in enumerate(group_teachers(points).items()):
        color = PALETTE[i % len(PALETTE)]
        marker = MARKERS[i // len(PALETTE) % len(MARKERS)]
        axes.plot(
            [p.gflop for p in teacher_points],
            [p.mean for p in teacher_points],
            marker, ms=3, color=color, alpha=0.35,
        )  # fmt: skip
        best = {}
        for p in sorted(teacher_points, key=lambda point: point.mean):
            best[p.layer] = p
        axes.errorbar(
            [p.gflop for p in best.values()], [p.mean for p in best.values()],
            [p.standard_error for p in best.values()], fmt=marker, ms=6,
            color=color, capsize=3, label=name,
        )  # fmt: skip
        choice = select_within_one_se(teacher_points)[0]
        axes.plot(choice.gflop, choice.mean, 'o', ms=12, mfc='none', mec=color)
    for p, style in zip(baselines, STYLES):
        axes.axhline(p.mean, ls=style, color='0.5', label=p.layer)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel('GFLOP of the teacher for one image, up to the layer')
    axes.set_ylabel(f'linear probe: {metric}')
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside right upper', frameon=False, fontsize='small')
    figure.savefig(path, dpi=150)
