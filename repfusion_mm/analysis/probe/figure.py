"""Figures of what a probe measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, Mapping, Tuple

import numpy as np

from repfusion_mm.analysis.probe.measurement import Key, Measurement
from repfusion_mm.analysis.probe.results import find_best
from repfusion_mm.visualization.palette import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

STYLES = ('--', ':')


def draw_probe(
    measurements: Mapping[Key, Measurement],
    baselines: Mapping[str, Measurement],
    metric: str,
    path: Path,
) -> None:
    """Draw R² over the timesteps of each layer, and a heat map of scores."""
    from matplotlib.figure import Figure

    curves: Dict[Tuple[str, str], Dict[int, Measurement]] = {}
    for (mode, layer, t), measurement in measurements.items():
        curves.setdefault((layer, mode), {})[t] = measurement
    layers = [*dict.fromkeys(layer for layer, _ in curves)]
    modes = [*dict.fromkeys(mode for _, mode in curves)]
    is_map = len(curves) > 1
    figure = Figure((13 if is_map else 6.5, 4.2), layout='constrained')
    columns = figure.subplots(1, 1 + is_map, squeeze=False)[0]
    axes = columns[0]
    for (layer, mode), curve in curves.items():
        timesteps = np.array([*curve])
        mean = np.array([m.r2 for m in curve.values()])
        error = np.array([m.r2_error for m in curve.values()])
        color = PALETTE[layers.index(layer) % len(PALETTE)]
        style = ('-', '--')[modes.index(mode)]
        axes.plot(
            timesteps, mean, f'o{style}', ms=3, color=color,
            label=f'{layer}, {mode}',
        )  # fmt: skip
        axes.fill_between(
            timesteps, mean - error, mean + error, color=color, alpha=0.2, lw=0
        )
    best = find_best(measurements)
    axes.plot(best[2], measurements[best].r2, 'k*', ms=10, label='best')
    for (name, m), style in zip(baselines.items(), STYLES):
        axes.axhline(m.r2, ls=style, color='0.5', label=name)
    axes.set_xlabel('timestep t')
    axes.set_ylabel('leave-one-image-out R²')
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc='outside lower left',
        frameon=False, fontsize='x-small', handlelength=4,
        ncols=3 if is_map else 2,
    )  # fmt: skip
    if is_map:
        draw_heat_map(
            figure,
            columns[1],
            {
                ', '.join(name): {t: m.score[0] for t, m in curve.items()}
                for name, curve in curves.items()
            },
            metric,
        )
    figure.savefig(path, dpi=150)


def draw_heat_map(
    figure: FigureBase,
    axes: Axes,
    rows: Mapping[str, Mapping[int, float]],
    label: str,
) -> None:
    """Draw a row for each layer and a column for each timestep.

    Cells without a score are blank.
    """
    timesteps = sorted({t for row in rows.values() for t in row})
    values = np.array(
        [[row.get(t, np.nan) for t in timesteps] for row in rows.values()]
    )
    image = axes.imshow(values, aspect='auto', interpolation='none')
    axes.set_yticks(range(len(rows)), [*rows], fontsize='x-small')
    step = -(-len(timesteps) // 8)
    ticks = [str(t) for t in timesteps[::step]]
    axes.set_xticks(range(0, len(timesteps), step), ticks)
    axes.set_xlabel('timestep t')
    figure.colorbar(image, ax=axes, label=label, pad=0.01)
