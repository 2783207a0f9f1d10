"""The table of a comparison of teachers, and the lines to paste."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

from mmengine.config import Config


class Point(NamedTuple):
    """The score of a layer at a timestep over all splits, and its cost."""

    teacher: str  # name of its config
    layer: str
    timestep: int
    input_mode: str
    gflop: float  # of a pass for one image, up to the layer
    mean: float
    standard_error: float
    std: float  # of the scores of the splits


def select_within_one_se(points: Sequence[Point]) -> List[Point]:
    """Return the points within one standard error of the highest mean.

    The cheapest ones are first, and among these the highest mean.
    """
    best = max(points, key=lambda point: point.mean)
    threshold = best.mean - best.standard_error
    good = [point for point in points if point.mean >= threshold]
    return sorted(good, key=lambda point: (point.gflop, -point.mean))


def group_teachers(points: Sequence[Point]) -> Dict[str, List[Point]]:
    """Return the points of each teacher by its name."""
    groups: Dict[str, List[Point]] = {}
    for point in points:
        groups.setdefault(point.teacher, []).append(point)
    return groups


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write a CSV file with a line for each point."""
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([Point._fields, *points])


def format_comparison(
    points: Sequence[Point],
    baselines: Sequence[Point],
    metric: str,
    configs: Dict[str, Config],
) -> str:
    """Return a page in Markdown: the table, the best, and lines to paste."""
    groups = group_teachers(points)
    rows = []
    for name, teacher_points in groups.items():
        best = max(teacher_points, key=lambda point: point.mean)
        rows.append(
            f'| {name} | {_score(best)} | {best.std:.3f} | {best.gflop:.4g} | '
            f'{best.layer}, t = {best.timestep} | '
            f'{describe_within_one_se(teacher_points)} |'
        )
    rows += [
        f'| {point.layer} | {_score(point)} | {point.std:.3f} | | | |'
        for point in baselines
    ]
    good = select_within_one_se(points)
    names = list(group_teachers(good))
    advice = f'Highest score: {names[0]}'
    if len(names) > 1:
        advice = (
            'Not distinguishable by the probe (within one standard error of '
            f'the highest score), cheapest first: {", ".join(names)}'
        )
    parts = [
        f'| teacher | {metric} | std of splits | GFLOP '
        '| best layer and timestep | within one standard error of it |',
        '|---|---|---|---|---|---|',
        *rows,
        '',
        f'{advice}.',
    ]
    for name, teacher_points in groups.items():
        choice = select_within_one_se(teacher_points)[0]
        layers = list(dict.fromkeys(p.layer for p in teacher_points))
        parts += [
            '',
            f'{name}, {metric} {_score(choice)}, {choice.gflop:.4g} GFLOP:',
            '',
            '```python',
            format_lines(configs[name], layers, choice),
            '```',
        ]
    return '\n'.join(parts) + '\n'


def describe_within_one_se(points: Sequence[Point]) -> str:
    """Name all layers and timesteps within one standard error of the best.

    Timesteps that follow each other among those of a layer are a range.
    """
    good = select_within_one_se(points)
    parts = []
    for layer in dict.fromkeys(point.layer for point in good):
        probed = sorted({p.timestep for p in points if p.layer == layer})
        chosen = {p.timestep for p in good if p.layer == layer}
        groups = itertools.groupby(probed, key=chosen.__contains__)
        runs = [[*group] for is_chosen, group in groups if is_chosen]
        ranges = (
            f'{run[0]} to {run[-1]}' if len(run) > 1 else str(run[0])
            for run in runs
        )
        parts.append(f'{layer}: t = {", ".join(ranges)}')
    return '; '.join(parts)


def format_lines(cfg: Config, layers: List[str], choice: Point) -> str:
    """Return the lines of a config that distills one layer and timestep.

    Args:
        cfg: The config of a distillation from several layers.
        layers: The names of its layers, in their order.
        choice: The layer and the timestep.
    """
    teacher = dict(cfg.model.teacher.to_dict(), layers=[choice.layer])
    settings = (
        f'        {name}={value!r},' for name, value in teacher.items()
    )
    lines = [
        'model = dict(',
        '    teacher=dict(',
        '        _delete_=True,',
        *settings,
        '    ),',
        '    policy=dict(',
        '        _delete_=True,',
        "        type='repfusion_mm.FixedTimestepPolicy',",
        f'        timestep={choice.timestep},',
        '    ),',
        '    decoder=None,',
    ]
    if len(layers) > 1:
        index = cfg.model.student_indices[layers.index(choice.layer)]
        lines.append(f'    student_indices=[{index}],')
    end = [')', 'optim_wrapper = dict(policy=None, decoder=None)']
    return '\n'.join(lines + end)


def _score(point: Point) -> str:
    return f'{point.mean:.3f} ± {point.standard_error:.3f}'
