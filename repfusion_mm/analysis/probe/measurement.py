"""What a probe measures of a layer at one timestep."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

import numpy as np

#: Input mode, layer and timestep.
Key = Tuple[str, str, int]
#: Random permutations of the labels over the images.
NUM_PERMUTATIONS = 99


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
        null: R² with labels permuted over the images, for each permutation.
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


def permutations(num_images: int) -> Iterator[np.ndarray]:
    """Yield the same permutations for every layer and timestep."""
    rng = np.random.default_rng(0)
    for _ in range(NUM_PERMUTATIONS):
        yield rng.permutation(num_images)
