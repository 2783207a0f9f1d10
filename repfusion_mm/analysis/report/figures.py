"""The figures of the page, as data URLs."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path
from typing import List

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repfusion_mm.analysis.report.groups import Group
from repfusion_mm.analysis.report.runs import Run
from repfusion_mm.visualization.palette import BLUE, PALETTE, VERMILION


def encode(figure: Figure) -> str:
    """Return a figure as the URL of an SVG image inside a page."""
    file = io.BytesIO()
    figure.savefig(file, format='svg', dpi=150)
    data = base64.b64encode(file.getvalue()).decode()
    return f'data:image/svg+xml;base64,{data}'


def embed(picture: Path) -> str:
    """Return a PNG file as the URL of an image inside a page."""
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'data:image/png;base64,{data}'


def draw_losses(run: Run) -> str:
    """Draw each loss of a run in its own panel."""
    names = [n for n in run.curves if n.startswith('loss_')] or ['loss']
    figure = Figure(figsize=(7, 1.4 * len(names) + 0.4), layout='constrained')
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name, color in zip(panels, names, itertools.cycle(PALETTE)):
        axes.plot(*zip(*run.curves[name]), 'o-', ms=2, lw=1, color=color)
        axes.set_ylabel(name.replace('loss_', '') + '\nloss')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    panels[-1].set_xlabel('iteration')
    panels[-1].xaxis.set_major_locator(MaxNLocator('auto', integer=True))
    return encode(figure)


def draw_groups(groups: List[Group], metric: str) -> str:
    """Draw the score of each run as a point, and the mean of each group."""
    groups = [group for group in groups if group.scores(metric)]
    figure = Figure((7, 0.9 + 0.34 * len(groups)), layout='constrained')
    axes = figure.subplots()
    for row, group in enumerate(groups):
        scores = group.scores(metric)
        rows = [row] * len(scores)
        axes.plot(scores, rows, 'o', ms=4, color=BLUE, alpha=0.5, mew=0)
        axes.plot(np.mean(scores), row, '|', ms=14, mew=2, color=VERMILION)
    labels = [shorten(group.label) for group in groups]
    axes.set_yticks(range(len(groups)), labels, size='small')
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(f'{metric} (points: runs; bar: mean)')
    axes.grid(axis='x', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    return encode(figure)


def shorten(label: str) -> str:
    """Return a label without its middle if it is too long."""
    return label if len(label) <= 60 else f'{label[:30]} … {label[-27:]}'
