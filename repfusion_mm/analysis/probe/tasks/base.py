"""The tasks of a probe, one for each kind of label.

Which labels count is decided as in the decoders, by
:mod:`repfusion_mm.models.utils.labels`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Hashable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch

from repfusion_mm.analysis.probe.measurement import (
    MIN_ARRANGEMENTS,
    Measurement,
    permutations,
)

#: Height and width of feature maps.
Grid = Tuple[int, int]
MIN_IMAGES = 3


class Task(ABC):
    """What a linear model predicts from which features, and its score.

    Args:
        targets: The targets of N images, all of which count.

    Raises:
        ValueError: A linear model cannot be fitted to these targets.
    """

    #: Field of a data sample, with the label.
    field: str
    #: Name of the score.
    metric: str
    #: Whether one linear model is fitted to all timesteps of a layer. With
    #: one row for each image, this ranks them better than a model for each.
    is_shared = False
    #: Penalty of the ridge regression, see :class:`LeaveOneOutRidge`.
    penalty: float

    def __init__(self, targets: Sequence[np.ndarray]) -> None:
        if len(targets) < MIN_IMAGES:
            raise ValueError(
                f'expected {MIN_IMAGES} labeled images or more, got '
                f'{len(targets)}; give labels to the images of the dataset, '
                'or set probe_dataset in the config to a labeled one'
            )

    @staticmethod
    @abstractmethod
    def read(sample: Any, ignore_index: int) -> Optional[torch.Tensor]:
        """Return the label of a data sample, None if nothing counts."""

    def check_grid(self, grid: Grid) -> None:  # noqa: B027, may do nothing
        """Refuse feature maps on which nothing can be fitted."""

    @abstractmethod
    def rows(self, maps: torch.Tensor, begin: int) -> torch.Tensor:
        """Return the n x R x D features of n x C x h x w maps.

        Args:
            maps: Feature maps of the images from ``begin`` on.
            begin: Index of the first image.
        """

    def finish(self, rows: np.ndarray) -> np.ndarray:
        """Return what is kept of the features of all images."""
        return rows

    def arrangement(self, order: np.ndarray) -> Hashable:
        """Identify how a permutation distributes the labels over images."""
        return tuple(order)

    def num_arrangements(self, num_images: int) -> int:
        """Return the number of different arrangements of the labels."""
        return math.factorial(num_images)

    def permutations(self, num_images: int) -> Iterator[np.ndarray]:
        """Yield permutations of the labels; none if there are too few."""
        if self.num_arrangements(num_images) >= MIN_ARRANGEMENTS:
            yield from permutations(num_images, self.arrangement)

    @abstractmethod
    def measure(self, features: np.ndarray, grid: Grid) -> List[Measurement]:
        """Fit a linear model to all labels; measure it at each timestep.

        Args:
            features: N x T x R x D, of N images at T timesteps.
            grid: Height and width of the maps that they are of.
        """
