"""The picture of a comparison of teachers: score over cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, Mapping, Sequence

from repfusion_mm.analysis.comparison.results import (
    Point,
    group_teachers,
    is_useful,
    select_within_one_se,
)
from repfusion_mm.analysis.probe.figure import STYLES, draw_heat_map
from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.visualization.palette import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = 'osD^v'


def draw_comparison(
    points: Sequence[Point],
    baselines: Mapping[str, Measurement],
    metric: str,
    path: Path,
) -> None:
    """Draw R² over cost, and the scores of all layers over the timesteps.

    Large points are the best timestep of each layer with its standard error.
    A circle marks the cheapest point of a teacher among those within one
    standard error of its highest R², if the teacher is useful.
    """
    from matplotlib.figure import Figure

    rows: Dict[str, Dict[int, float]] = {}
    for point in points:
        row = rows.setdefault(f'{point.teacher}, {point.layer}', {})
        row[point.timestep] = point.measurement.score[0]
    height = max(4.0, 1.5 + 0.25 * len(rows))
    figure = Figure((14, height), layout='constrained')
    left, right = figure.subplots(1, 2)
    _draw_costs(left, points, baselines)
    draw_heat_map(figure, right, rows, metric)
    figure.savefig(path, dpi=150)


def _draw_costs(
    axes: Axes,
    points: Sequence[Point],
    baselines: Mapping[str, Measurement],
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for i, (name, teacher_points) in enumerate(group_teachers(points).items()):
        color = PALETTE[i % len(PALETTE)]
        marker = MARKERS[i // len(PALETTE) % len(MARKERS)]
        axes.plot(
            [p.gflop for p in teacher_points],
            [p.measurement.r2 for p in teacher_points],
            marker, ms=3, color=color, alpha=0.35,
        )  # fmt: skip
        best = {}
        for p in sorted(teacher_points, key=lambda p: p.measurement.r2):
            best[p.layer] = p
        axes.errorbar(
            [p.gflop for p in best.values()],
            [p.measurement.r2 for p in best.values()],
            [p.measurement.r2_error for p in best.values()],
            fmt=marker, ms=6, color=color, capsize=3, label=name,
        )  # fmt: skip
        if not is_useful(teacher_points):
            continue
        choice = select_within_one_se(teacher_points)[0]
        axes.plot(
            choice.gflop, choice.measurement.r2, 'o', ms=12, mfc='none',
            mec=color,
        )  # fmt: skip
    for (name, measurement), style in zip(baselines.items(), STYLES):
        axes.axhline(measurement.r2, ls=style, color='0.5', label=name)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel('GFLOP of the teacher for one image, up to the layer')
    axes.set_ylabel('leave-one-image-out R²')
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize='small')
