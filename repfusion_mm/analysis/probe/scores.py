"""The scores of linear probes: their file, and what they show."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import DefaultDict, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from repfusion_mm.visualization.palette import PALETTE

#: Mean score and its standard error at each timestep.
Curve = Dict[int, Tuple[float, float]]
#: Input mode, layer and number of labels.
Key = Tuple[str, str, int]


class Score(NamedTuple):
    """The score of one linear probe; higher is better."""

    input_mode: str
    layer: str
    timestep: int
    num_labels: int
    split: int
    score: float


def read_scores(path: Path) -> List[Score]:
    """Read scores from a CSV file if it exists.

    A truncated last line is ignored.

    Raises:
        ValueError: The file is not a table of scores.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline='', encoding='utf-8') as file:
            head, *rows = csv.reader(file)
        if tuple(head) != Score._fields:
            raise ValueError(f'its first line is {head}')
        complete = (row for row in rows if len(row) == len(head))
        return [
            Score(mode, layer, int(t), int(n), int(split), float(score))
            for mode, layer, t, n, split, score in complete
        ]
    except ValueError as error:
        raise ValueError(
            f'expected scores of probe_timesteps.py in {path}, got something '
            f'else: {error}'
        ) from error


def write_scores(path: Path, scores: List[Score]) -> None:
    """Write all scores atomically."""
    unfinished = path.with_name(path.name + '.tmp')
    with unfinished.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([Score._fields, *scores])
    unfinished.replace(path)


def mean_curves(scores: List[Score]) -> Dict[Key, Curve]:
    """Return the mean scores of all splits and their standard errors.

    The standard error of a single score is zero.
    """
    from scipy.stats import sem

    grouped: DefaultDict[Key, DefaultDict[int, List[float]]]
    grouped = defaultdict(lambda: defaultdict(list))
    for s in scores:
        key = s.input_mode, s.layer, s.num_labels
        grouped[key][s.timestep].append(s.score)
    return {
        key: {
            t: (fmean(values), sem(values) if len(values) > 1 else 0.0)
            for t, values in sorted(by_timestep.items())
        }
        for key, by_timestep in grouped.items()
    }


def find_good_range(curve: Curve) -> Tuple[int, int, int]:
    """Return the best timestep, and the ends of the range around it.

    All means in the range are within one standard error of the best.
    """
    best = max(curve, key=lambda t: curve[t][0])
    least = curve[best][0] - curve[best][1]
    worse = [t for t, (mean, _) in curve.items() if mean < least]
    low = max((t for t in worse if t < best), default=-1)
    high = min((t for t in worse if t > best), default=max(curve) + 1)
    good = [t for t in curve if low < t < high]
    return best, min(good), max(good)


def best_curve(
    curves: Dict[Key, Curve], num_labels: int
) -> Tuple[str, str, Curve]:
    """Return input mode, layer and curve of the best score."""
    mode, layer, _ = max(
        (key for key in curves if key[2] == num_labels),
        key=lambda key: max(mean for mean, _ in curves[key].values()),
    )
    return mode, layer, curves[mode, layer, num_labels]


def read_best(path: Path) -> Optional[Tuple[Dict[int, float], str]]:
    """Read the best curve for the smallest number of labels.

    Returns:
        The mean score at each timestep and a label for a figure; None if
        there are no scores.
    """
    curves = mean_curves(read_scores(path))
    if not curves:
        return None
    fewest = min(key[2] for key in curves)
    mode, layer, curve = best_curve(curves, fewest)
    label = f'linear probe\n{fewest} labels, {mode}\n{layer}'
    return {t: mean for t, (mean, _) in curve.items()}, label


def recommend(scores: List[Score], metric: str) -> str:
    """Describe the best layer and timesteps for each number of labels."""
    curves = mean_curves(scores)
    modes = {score.input_mode for score in scores}
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
            f'low={low}, high={high})'
            if len(curve) > 1
            else "    policy=dict(type='repfusion_mm.FixedTimestepPolicy', "
            f'timestep={best})',
        ]
        if len(modes) > 1:  # one of them is not that of the config
            lines.append(f'    teacher=dict(input_mode={mode!r})')
    return '\n'.join(lines)


def draw_scores(scores: List[Score], metric: str, path: Path) -> None:
    """Draw all curves, one panel for each number of labels."""
    from matplotlib.figure import Figure

    curves = mean_curves(scores)
    budgets = sorted({key[2] for key in curves})
    layers = sorted({key[1] for key in curves})
    figure = Figure((1 + 3.6 * len(budgets), 3.6), layout='constrained')
    panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for (mode, layer, n), curve in curves.items():
        t = np.array(list(curve))
        mean, error = np.array(list(curve.values())).T
        color = PALETTE[layers.index(layer) % len(PALETTE)]
        style = '-' if mode == 'clean' else '--'
        axes = panels[budgets.index(n)]
        label = f'{layer}, {mode}'
        axes.plot(t, mean, f'o{style}', ms=3, color=color, label=label)
        band = mean - error, mean + error
        axes.fill_between(t, *band, color=color, alpha=0.25, lw=0)
    for axes, n in zip(panels, budgets):
        axes.set_xlabel('timestep t')
        axes.set_title(f'{n} labels', size='medium')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel(f'linear probe: {metric}')
    panels[-1].legend(frameon=False, fontsize='x-small')
    figure.savefig(path, dpi=150)
