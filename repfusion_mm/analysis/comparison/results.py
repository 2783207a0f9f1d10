"""The table of a comparison of teachers, and the lines to paste."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence

from mmengine.config import Config

from repfusion_mm.analysis.probe.config_lines import advise
from repfusion_mm.analysis.probe.measurement import Key, Measurement
from repfusion_mm.analysis.probe.results import (
    find_best,
    is_undecided,
    within_one_se,
)
from repfusion_mm.analysis.probe.verdict import (
    TOO_FEW,
    describe_others,
    describe_pixels,
    format_r2,
    format_score,
    is_better,
    is_informative,
)


class Point(NamedTuple):
    """What was measured of a layer at a timestep, and its cost."""

    teacher: str  # name of its config
    layer: str
    timestep: int
    input_mode: str
    gflop: float  # of a pass for one image, up to the layer
    measurement: Measurement


def select_within_one_se(points: Sequence[Point]) -> List[Point]:
    """Return the points within one standard error of the highest R².

    The cheapest ones are first, and among these the highest R².
    """
    chosen = within_one_se({i: p.measurement for i, p in enumerate(points)})
    good = [points[i] for i in chosen]
    return sorted(good, key=lambda p: (p.gflop, -p.measurement.r2))


def group_teachers(points: Sequence[Point]) -> Dict[str, List[Point]]:
    """Return the points of each teacher by its name."""
    groups: Dict[str, List[Point]] = {}
    for point in points:
        groups.setdefault(point.teacher, []).append(point)
    return groups


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write a CSV file with a line for each point."""
    columns = [*Point._fields[:-1], 'r2', 'r2_standard_error', 'score', 'low']
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow([*columns, 'high'])
        for *key, m in points:
            writer.writerow([*key, m.r2, m.r2_error, *m.score])


def format_comparison(
    points: Sequence[Point],
    baselines: Mapping[str, Measurement],
    metric: str,
    configs: Dict[str, Config],
    options: Iterable[str] = (),
) -> str:
    """Return a page in Markdown: the table, the best, and what to write.

    There is no advice for teachers that say nothing about the labels.

    Args:
        points: What was measured of all teachers.
        baselines: What was measured without a teacher.
        metric: Name of the score.
        configs: The configs of the teachers by their names.
        options: The names of the settings that ``--cfg-options`` changed.
    """
    groups = group_teachers(points)
    rows = []
    for name, teacher_points in groups.items():
        measured = by_key(teacher_points)
        _, layer, t = key = find_best(measured)
        gflop = next(p.gflop for p in teacher_points if p.layer == layer)
        good = ' '.join(describe_others(measured))
        if not is_informative(measured):
            good = 'says nothing about these labels'
            if is_undecided(measured):
                good = 'too few labels to tell'
        rows.append(
            f'| {name} | {format_score(measured[key])} | '
            f'{format_r2(measured[key])} | {gflop:.4g} | {layer}, t = {t} | '
            f'{good} |'
        )
    rows += [
        f'| {name} | {format_score(measurement)} | '
        f'{format_r2(measurement)} | | | |'
        for name, measurement in baselines.items()
    ]
    parts = [
        f'| teacher | {metric} | R² | GFLOP | best layer and timestep '
        '| other layers and timesteps |',
        '|---|---|---|---|---|---|',
        *rows,
        '',
        f'{recommend(points)}.',
        *warn_of_pixels(points, baselines),
    ]
    for name, teacher_points in groups.items():
        if not is_useful(teacher_points):
            continue
        choice = select_within_one_se(teacher_points)[0]
        layers = list(dict.fromkeys(p.layer for p in teacher_points))
        parts += [
            '',
            f'{name}, {metric} {format_score(choice.measurement)}, '
            f'{choice.gflop:.4g} GFLOP:',
            '',
            advise(
                configs[name], layers, choice.layer, choice.timestep,
                options=options,
            ),
        ]  # fmt: skip
    return '\n'.join(parts) + '\n'


def recommend(points: Sequence[Point]) -> str:
    """Name the teachers that cannot be distinguished from the best one."""
    measured = dict(enumerate(p.measurement for p in points))
    if not is_informative(measured):
        if is_undecided(measured):
            return TOO_FEW.rstrip('.').replace('the teacher', 'a teacher')
        return (
            'No teacher says anything about these labels: with labels '
            'permuted at random, the linear model is as good. Check the '
            'labels, try other layers, or label more images'
        )
    useful = [
        point
        for teacher_points in group_teachers(points).values()
        if is_useful(teacher_points)
        for point in teacher_points
    ]
    if not useful:
        return (
            'No teacher is better than a constant (R² above 0) for a linear '
            'model. Try other layers or teachers, or label more images'
        )
    names = list(group_teachers(select_within_one_se(useful)))
    if len(names) == 1:
        return f'Highest R²: {names[0]}'
    return (
        'Not distinguishable by the probe (within one standard error of the '
        f'highest R²), cheapest first: {", ".join(names)}'
    )


def is_useful(points: Sequence[Point]) -> bool:
    """Return whether a teacher says anything about the labels.

    Permuted labels are worse for it, and a constant is, too.
    """
    measured = by_key(points)
    best = measured[find_best(measured)]
    return is_informative(measured) and best.r2 > 0


def warn_of_pixels(
    points: Sequence[Point], baselines: Mapping[str, Measurement]
) -> List[str]:
    """Say if raw pixels are as good as the best teacher."""
    measured = dict(enumerate(point.measurement for point in points))
    best, pixels = measured[find_best(measured)], baselines.get('raw pixels')
    if pixels is None or is_better(best, pixels):
        return []
    return ['', describe_pixels(best, pixels)]


def by_key(points: Sequence[Point]) -> Dict[Key, Measurement]:
    """Return what was measured of one teacher, as a probe returns it."""
    return {(p.input_mode, p.layer, p.timestep): p.measurement for p in points}
