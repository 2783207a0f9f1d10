"""What the scores of probes show: curves, a range of timesteps, a picture."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import DefaultDict, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from repfusion_mm.analysis.probe.scores import Score, read_scores
from repfusion_mm.visualization.palette import PALETTE

STYLES = dict(clean='-', noised='--')

#: Mean score and its standard error at each timestep.
Curve = Dict[int, Tuple[float, float]]
#: Input mode, layer and number of labels.
Key = Tuple[str, str, int]


class ProbeResult(NamedTuple):
    """The mean score of the best input mode and layer at each timestep."""

    label: str
    means: Dict[int, float]


def mean_curves(scores: List[Score]) -> Dict[Key, Curve]:
    """Return the mean scores of all splits and their standard errors."""
    grouped: DefaultDict[Key, DefaultDict[int, List[float]]]
    grouped = defaultdict(lambda: defaultdict(list))
    for s in scores:
        key = s.input_mode, s.layer, s.num_labels
        grouped[key][s.timestep].append(s.score)
    return {
        key: {
            t: (float(np.mean(values)), standard_error(values))
            for t, values in sorted(by_timestep.items())
        }
        for key, by_timestep in grouped.items()
    }


def standard_error(values: List[float]) -> float:
    """Return the standard error of a mean; zero for a single value."""
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def find_good_range(curve: Curve) -> Tuple[int, int, int]:
    """Return the best timestep and the range of timesteps as good as it.

    Returns:
        The best timestep, and the first and last timestep of the range
        around it in which all means are within one standard error of the
        best.
    """
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


def best_curve(
    curves: Dict[Key, Curve], num_labels: int
) -> Tuple[str, str, Curve]:
    """Return input mode, layer and curve of the best score."""
    key = max(
        (key for key in curves if key[2] == num_labels),
        key=lambda key: max(mean for mean, _ in curves[key].values()),
    )
    return key[0], key[1], curves[key]


def read_result(path: Path) -> Optional[ProbeResult]:
    """Read the best curve for the smallest number of labels.

    Args:
        path: ``probe.csv``.

    Returns:
        None if there are no scores.
    """
    curves = mean_curves(read_scores(path))
    if not curves:
        return None
    fewest = min(key[2] for key in curves)
    mode, layer, curve = best_curve(curves, fewest)
    return ProbeResult(
        f'linear probe\n{fewest} labels, {mode}\n{layer}',
        {t: mean for t, (mean, _) in curve.items()},
    )


def recommend(scores: List[Score], metric: str) -> str:
    """Describe the best layer and timesteps for each number of labels."""
    curves = mean_curves(scores)
    lines = []
    for n in sorted({key[2] for key in curves}):
        mode, layer, curve = best_curve(curves, n)
        best, low, high = find_good_range(curve)
        mean, error = curve[best]
        lines += [
            f'{n} labels: {metric} {mean:.3f} (standard error {error:.3f}) '
            f'at t = {best}, layer {layer}, {mode} input; '
            f't = {low} to {high} are as good',
            "    policy=dict(type='repfusion_mm.LearnedTimestepPolicy', "
            f'low={low}, high={high})',
        ]
    return '\n'.join(lines)


def draw_scores(scores: List[Score], metric: str, path: Path) -> None:
    """Draw all curves, one panel for each number of labels."""
    from matplotlib.figure import Figure

    curves = mean_curves(scores)
    budgets = sorted({key[2] for key in curves})
    layers = sorted({key[1] for key in curves})
    figure = Figure(
        figsize=(1 + 3.6 * len(budgets), 3.6), layout='constrained'
    )
    panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, n in zip(panels, budgets):
        for (mode, layer, budget), curve in curves.items():
            if budget != n:
                continue
            t = np.array(list(curve))
            mean, error = np.array(list(curve.values())).T
            color = PALETTE[layers.index(layer) % len(PALETTE)]
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
