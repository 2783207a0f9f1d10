"""The pictures of a report, as data that a page can hold."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Dict, List

from matplotlib.figure import Figure
from probe_report import COLORS
from report_runs import Curve, Group, Run

from repfusion_mm.engine.policy_records import plot_records


def encode(figure: Figure) -> str:
    """Return a figure as the address of an image inside a page."""
    file = io.BytesIO()
    figure.savefig(file, format='svg', dpi=150)
    data = base64.b64encode(file.getvalue()).decode()
    return f'data:image/svg+xml;base64,{data}'


def draw_policy(run: Run) -> str:
    return encode(plot_records(run.records, run.probe))


def draw_losses(run: Run) -> str:
    """Draw every loss of a run in a panel of its own."""
    losses: Dict[str, Curve] = {
        name: curve
        for name, curve in run.curves.items()
        if name.startswith('loss_')
    } or {'loss': run.curves['loss']}
    figure = Figure(figsize=(7, 1.4 * len(losses) + 0.4), layout='constrained')
    panels = figure.subplots(len(losses), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, curve), color in zip(
        panels, losses.items(), itertools.cycle(COLORS)
    ):
        steps, values = zip(*curve)
        axes.plot(steps, values, 'o-', ms=2, lw=1, color=color)
        axes.set_ylabel(name.replace('loss_', '') + '\nloss')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    panels[-1].set_xlabel('iteration')
    return encode(figure)


def draw_groups(groups: List[Group], labels: List[str], metric: str) -> str:
    """Draw the scores of each group: every run a point, and their mean."""
    figure = Figure(
        figsize=(7, 0.9 + 0.34 * len(groups)), layout='constrained'
    )
    axes = figure.subplots()
    for row, group in enumerate(groups):
        scores = group.results.get(metric, [])
        if not scores:
            continue
        axes.plot(scores, [row] * len(scores), 'o', ms=4, color=COLORS[0],
                  alpha=0.5, mew=0)  # fmt: skip
        axes.plot([sum(scores) / len(scores)], [row], '|', ms=14, mew=2,
                  color=COLORS[5])  # fmt: skip
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(f'{metric} (points: runs; bar: mean)')
    axes.grid(axis='x', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    return encode(figure)
