"""What probes say: a picture, and a range of timesteps."""

from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
from matplotlib.figure import Figure

# Okabe-Ito: told apart in print and by colour-blind readers.
COLORS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00')
STYLES = dict(clean='-', noised='--')

Curve = Dict[int, Tuple[float, float]]


def curves(scores: List) -> Dict[tuple, Curve]:
    """Return, for each (input mode, layer, number of labels), the mean and
    its standard error at each timestep."""
    found: dict = defaultdict(lambda: defaultdict(list))
    for s in scores:
        found[s.input_mode, s.layer, s.num_labels][s.timestep].append(s.score)
    return {
        key: {
            t: (float(np.mean(values)), standard_error(values))
            for t, values in sorted(by_timestep.items())
        }
        for key, by_timestep in found.items()
    }


def standard_error(values: List[float]) -> float:
    """Return the standard error of a mean, zero for one value."""
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def good_range(curve: Curve) -> Tuple[int, int, int]:
    """Return the best timestep, and the ends of the range around it in which
    all are within one standard error of it."""
    timesteps = list(curve)
    means = [curve[t][0] for t in timesteps]
    best = int(np.argmax(means))
    least = means[best] - curve[timesteps[best]][1]
    low = high = best
    while low > 0 and means[low - 1] >= least:
        low -= 1
    while high < len(means) - 1 and means[high + 1] >= least:
        high += 1
    return timesteps[best], timesteps[low], timesteps[high]


def best_curve(found: Dict[tuple, Curve], num_labels: int) -> tuple:
    """Return input mode, layer and curve of the best score."""
    mode, layer, _ = max(
        (key for key in found if key[2] == num_labels),
        key=lambda key: max(mean for mean, _ in found[key].values()),
    )
    return mode, layer, found[mode, layer, num_labels]


def recommend(scores: List, metric: str) -> str:
    """Say for each number of labels which layer and timesteps are best."""
    found = curves(scores)
    lines = []
    for n in sorted({key[2] for key in found}):
        mode, layer, curve = best_curve(found, n)
        best, low, high = good_range(curve)
        mean, error = curve[best]
        lines += [
            f'{n} labels: {metric} {mean:.3f} (standard error {error:.3f}) '
            f'at t = {best}, layer {layer}, {mode} input; '
            f't = {low} to {high} are as good',
            "    policy=dict(type='repfusion_mm.LearnedTimestepPolicy', "
            f'low={low}, high={high})',
        ]
    return '\n'.join(lines)


def draw(scores: List, metric: str, path: Path) -> None:
    """Draw all curves, a panel for each number of labels."""
    found = curves(scores)
    budgets = sorted({key[2] for key in found})
    layers = sorted({key[1] for key in found})
    figure = Figure(
        figsize=(1 + 3.6 * len(budgets), 3.6), layout='constrained'
    )
    panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, n in zip(panels, budgets):
        for (mode, layer, budget), curve in found.items():
            if budget != n:
                continue
            t = np.array(list(curve))
            mean, error = np.array(list(curve.values())).T
            color = COLORS[layers.index(layer) % len(COLORS)]
            axes.plot(t, mean, STYLES[mode], marker='o', ms=3, color=color,
                      label=f'{layer}, {mode}')  # fmt: skip
            axes.fill_between(
                t, mean - error, mean + error, color=color, alpha=0.25, lw=0
            )
        axes.set(xlabel='timestep t', title=f'{n} labels')
        axes.title.set_size('medium')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel(f'linear probe: {metric}')
    panels[-1].legend(frameon=False, fontsize='x-small')
    figure.savefig(path, dpi=150)
