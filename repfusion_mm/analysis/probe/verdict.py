"""Say in words what a probe shows, and what it cannot show."""

from __future__ import annotations

from typing import Dict, List, Mapping

import numpy as np

from repfusion_mm.analysis.probe.measurement import (
    NUM_ERRORS,
    Key,
    Measurement,
    difference,
)
from repfusion_mm.analysis.probe.results import (
    SIGNIFICANCE,
    TIMESTEP_SIGNIFICANCE,
    describe_timesteps,
    find_best,
    is_undecided,
    label_p_value,
    timestep_p_value,
    within_one_se,
)

#: With fewer images no sign flips are rare enough for the test of timesteps.
MIN_FLIPPED = 6
NOTHING = (
    'The teacher says nothing about these labels: with labels permuted at '
    'random, the linear model is as good. Check the labels, try other layers '
    'or another teacher, or label more images.'
)
TOO_FEW = (
    'These labels are too few to test whether the teacher says anything about '
    'them: there are fewer than 100 ways to permute them. Label more images.'
)


def describe(
    measurements: Mapping[Key, Measurement],
    baselines: Mapping[str, Measurement],
    metric: str,
) -> str:
    """Return the verdict on one teacher, without the lines of a config."""
    best = find_best(measurements)
    mode, layer, timestep = best
    lines = [
        f'best: {metric} {format_score(measurements[best])}, '
        f'R² {format_r2(measurements[best])}, at t = {timestep}, layer '
        f'{layer}, {mode} input',
        *(
            f'{name}: {metric} {format_score(baseline)}'
            for name, baseline in baselines.items()
        ),
    ]
    if not is_informative(measurements):
        why = TOO_FEW if is_undecided(measurements) else NOTHING
        return '\n'.join([*lines, why])
    lines += describe_others(measurements)
    pixels = baselines.get('raw pixels')
    if pixels and not is_better(measurements[best], pixels):
        lines.append(describe_pixels(measurements[best], pixels))
    return '\n'.join(lines)


def describe_others(measurements: Mapping[Key, Measurement]) -> List[str]:
    """Return sentences on what is as good as the best measurement."""
    mode, layer, _ = best = find_best(measurements)
    own = {key: m for key, m in measurements.items() if key[:2] == best[:2]}
    name = f'{layer}, {mode} input'
    sentences = []
    if len(own) > 1:
        num_images = int(np.isfinite(measurements[best].skill).sum())
        if num_images < MIN_FLIPPED:
            return [
                f'There are too few images to compare timesteps: {num_images} '
                f'of at least {MIN_FLIPPED}.'
            ]
        if timestep_p_value(own) > TIMESTEP_SIGNIFICANCE:
            sentences.append(
                f'No timestep is better than another here ({name}): the '
                'differences are within the noise of these images, and any of '
                'them is as good a choice.'
            )
    are_all_named = len(own) == 1 or bool(sentences)
    if len(measurements) > len(own) or not are_all_named:
        sentences.append(
            'not distinguishable from it (R² within one standard error): '
            f'{describe_good(measurements)}'
        )
    return sentences


def describe_pixels(best: Measurement, pixels: Measurement) -> str:
    """Say that pixels are as good as the best features, or better."""
    word = 'better' if is_better(pixels, best) else 'as good'
    return (
        f'Raw pixels are {word} for a linear model (R² {format_r2(pixels)}). '
        'A finetuned student is not a linear model: compare it with one '
        'that is trained from scratch.'
    )


def is_informative(measurements: Mapping) -> bool:
    """Return whether features predict permuted labels worse."""
    return label_p_value(measurements) <= SIGNIFICANCE


def is_better(one: Measurement, other: Measurement) -> bool:
    """Return whether R² is higher by :data:`NUM_ERRORS` standard errors."""
    mean, error = difference(one, other)
    return mean > NUM_ERRORS * error


def describe_good(measurements: Mapping[Key, Measurement]) -> str:
    """Name all layers and timesteps within one standard error of the best."""
    groups: Dict[str, List[int]] = {}
    modes = {key[0] for key in measurements}
    for mode, layer, t in within_one_se(measurements):
        name = f'{layer}, {mode} input' if len(modes) > 1 else layer
        groups.setdefault(name, []).append(t)
    probed = sorted({key[2] for key in measurements})
    return '; '.join(
        f'{name}: t = {describe_timesteps(chosen, probed)}'
        for name, chosen in groups.items()
    )


def format_score(measurement: Measurement) -> str:
    score, low, high = measurement.score
    return f'{score:.3f} (95% interval {low:.3f} to {high:.3f})'


def format_r2(measurement: Measurement) -> str:
    r2, error = measurement.r2, measurement.r2_error
    return f'{r2:.3f} (standard error {error:.3f})'
