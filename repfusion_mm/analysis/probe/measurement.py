"""What a probe measures of a layer at one timestep."""

from __future__ import annotations

from typing import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    NamedTuple,
    Tuple,
)

import numpy as np

#: Input mode, layer and timestep.
Key = Tuple[str, str, int]
#: Random permutations of the labels over the images.
NUM_PERMUTATIONS = 99
#: Standard errors of a difference: one in twenty of zero is above.
NUM_ERRORS = 1.645
#: Different ways to distribute the labels over the images that a test needs.
MIN_ARRANGEMENTS = 100


class Measurement(NamedTuple):
    """How well a linear model predicts the labels of images left out.

    Attributes:
        skill: For each of N images, the squared error of a constant minus
            that of the model, over the mean of the former; NaN for images
            that are not scored. The mean is R²: 1 is perfect, and at 0 or
            below the features are no better than no image at all.
        score: The score in the unit of the task, with the ends of its 95%
            interval. Higher is better.
        observed: R² in the form that ``null`` has.
        null: R² with labels permuted over the images, for each permutation;
            empty if there are too few permutations.
        is_own_fit: Whether the model is fitted to this timestep only.
    """

    skill: np.ndarray
    score: Tuple[float, float, float]
    observed: float
    null: np.ndarray
    is_own_fit: bool = False

    @property
    def r2(self) -> float:
        return float(np.nanmean(self.skill))

    @property
    def r2_error(self) -> float:
        """The standard error of R² over images."""
        return standard_error(self.skill)


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of the values that are no NaN."""
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float('nan')
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def difference(one: Measurement, other: Measurement) -> Tuple[float, float]:
    """Return the difference between two R², and its standard error.

    They are those of the images that both score, paired by image. A fit to
    one timestep may be good or bad by chance for all images, which they do
    not show: with such fits the variance of the mean is doubled (Nadeau and
    Bengio, 2003, with one test image for N - 1 others).
    """
    values = one.skill - other.skill
    factor = 2**0.5 if one.is_own_fit or other.is_own_fit else 1
    return float(np.nanmean(values)), factor * standard_error(values)


def smallest(
    differences: Iterable[Tuple[float, float]],
) -> Tuple[float, float]:
    """Return the difference that decides whether all are above zero.

    It is the lowest one if that is not above zero, or else the one with the
    lowest end of its interval: if it is above zero by :data:`NUM_ERRORS`
    standard errors, all are.

    Args:
        differences: Pairs of a difference of R² and its standard error.
    """
    found = [*differences]
    lowest = min(found)
    if lowest[0] <= 0:
        return lowest
    return min(found, key=lambda d: d[0] - NUM_ERRORS * d[1])


def permutations(
    num_images: int, arrangement: Callable[[np.ndarray], Hashable]
) -> Iterator[np.ndarray]:
    """Yield the same permutations for every layer and timestep.

    Those that distribute the labels as they are, and so say nothing about
    chance, are left out.

    Args:
        num_images: N.
        arrangement: Returns what identifies how a permutation distributes
            the labels over the images.
    """
    rng = np.random.default_rng(0)
    original = arrangement(np.arange(num_images))
    for _ in range(NUM_PERMUTATIONS):
        order = rng.permutation(num_images)
        while arrangement(order) == original:
            order = rng.permutation(num_images)
        yield order
