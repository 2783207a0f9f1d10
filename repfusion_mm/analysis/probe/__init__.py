"""Measure by linear probes how useful each timestep of a teacher is."""

from .prober import Prober
from .scores import (
    Score,
    best_curve,
    find_good_range,
    mean_curves,
    read_best,
    read_scores,
    write_scores,
)

__all__ = [
    'Prober', 'Score', 'best_curve', 'find_good_range', 'mean_curves',
    'read_best', 'read_scores', 'write_scores',
]  # fmt: skip
