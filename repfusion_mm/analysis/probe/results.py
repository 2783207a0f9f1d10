"""What measurements show, and their file."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Dict, Hashable, List, Mapping, Optional, Tuple, TypeVar

import numpy as np

from repfusion_mm.analysis.probe.measurement import (
    Key,
    Measurement,
    difference,
)

#: Of the test whether features say anything about the labels. One in a
#: hundred labels that are independent of the images passes; with nearly as few
#: arrangements as a test needs, 1.6 in a hundred.
SIGNIFICANCE = 0.01
#: Of the test whether timesteps differ.
TIMESTEP_SIGNIFICANCE = 0.05
NUM_SIGN_FLIPS = 999
#: Relative differences below this are rounding errors.
ROUNDING = 1e-9
COLUMNS = (
    'input_mode', 'layer', 'timestep', 'r2', 'r2_standard_error', 'score',
    'low', 'high',
)  # fmt: skip
K = TypeVar('K', bound=Hashable)


def find_best(measurements: Mapping[K, Measurement]) -> K:
    """Return the key of the highest R²."""
    return max(measurements, key=lambda key: measurements[key].r2)


def within_one_se(measurements: Mapping[K, Measurement]) -> List[K]:
    """Return the keys that are within one standard error of the highest R².

    The standard error is that of the difference.
    """
    best = measurements[find_best(measurements)]
    differences = {
        key: difference(best, measurement)
        for key, measurement in measurements.items()
    }
    return [
        key
        for key, (mean, error) in differences.items()
        if mean <= np.nan_to_num(error)
    ]


def label_p_value(measurements: Mapping[K, Measurement]) -> float:
    """Test whether any measurement says anything about the labels.

    The highest R² is compared with the highest R² of each permutation of the
    labels, so that the number of layers and timesteps does not matter.
    """
    # Masks may be too few to test on one of several grids.
    tested = [m for m in measurements.values() if len(m.null)]
    if not tested:
        return 1.0
    observed = max(m.observed for m in tested)
    return p_value(np.max([m.null for m in tested], axis=0), observed)


def is_undecided(measurements: Mapping[K, Measurement]) -> bool:
    """Return whether the labels are too few for :func:`label_p_value`."""
    return not any(len(m.null) for m in measurements.values())


def p_value(null: np.ndarray, observed: float) -> float:
    """Return the share of values that are as high, the observed included."""
    least = observed - ROUNDING * abs(observed)
    return (1 + int((null >= least).sum())) / (1 + len(null))


def timestep_p_value(measurements: Mapping[K, Measurement]) -> float:
    """Test whether any measurement differs from the mean of all.

    The differences of an image change their signs together, at random
    (Nichols and Holmes, 2002); the statistic is the largest absolute t value.
    For fits to one timestep the variance is doubled, see :func:`difference`.
    """
    skills = np.stack([m.skill for m in measurements.values()], axis=1)
    skills = skills[~np.isnan(skills).any(1)]
    differences = skills - skills.mean(1, keepdims=True)
    num_images = len(differences)
    squares = (differences**2).sum(0)
    # Constant columns, such as those of a single timestep, do not differ.
    differences = differences[:, squares > 1e-12 * (skills**2).sum()]
    squares = (differences**2).sum(0)
    if not differences.size:
        return 1.0

    def largest(sums: np.ndarray) -> np.ndarray:
        means = sums / num_images
        variances = squares / num_images - means**2
        return np.max(means**2 / np.maximum(variances, 1e-30), axis=-1)

    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (NUM_SIGN_FLIPS, num_images))
    null = largest(signs @ differences)
    observed = float(largest(differences.sum(0)))
    if any(m.is_own_fit for m in measurements.values()):
        observed /= 2
    return p_value(null, observed)


def describe_timesteps(chosen: List[int], probed: List[int]) -> str:
    """Return ranges of the chosen timesteps, such as ``'0 to 100, 300'``.

    Timesteps that follow each other among the probed ones are a range.
    """
    groups = itertools.groupby(sorted(probed), key={*chosen}.__contains__)
    runs = [[*group] for is_chosen, group in groups if is_chosen]
    return ', '.join(
        f'{run[0]} to {run[-1]}' if len(run) > 1 else str(run[0])
        for run in runs
    )


def write_table(measurements: Mapping[Key, Measurement], path: Path) -> None:
    """Write a CSV file with a line for each layer and timestep."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for key, m in measurements.items():
            numbers = (m.r2, m.r2_error, *m.score)
            writer.writerow([*key, *(f'{number:.5f}' for number in numbers)])


def read_best(path: Path) -> Optional[Tuple[Dict[int, float], str]]:
    """Read the scores of the layer with the highest R².

    Returns:
        The score at each timestep and a label for a figure; None if there
        is no file.

    Raises:
        ValueError: The file is not a table of ``probe_timesteps.py``.
    """
    if not path.exists():
        return None
    try:
        with path.open(newline='', encoding='utf-8') as file:
            head, *rows = csv.reader(file)
        if tuple(head) != COLUMNS:
            raise ValueError(f'its first line is {head}')
        best = max(rows, key=lambda row: float(row[3]))
        scores = {
            int(row[2]): float(row[5]) for row in rows if row[:2] == best[:2]
        }
    except (ValueError, IndexError) as error:
        raise ValueError(
            f'expected the table of probe_timesteps.py in {path}, got '
            f'something else: {error}; run probe_timesteps.py again'
        ) from error
    return scores, f'linear probe\n{best[0]}\n{best[1]}'
