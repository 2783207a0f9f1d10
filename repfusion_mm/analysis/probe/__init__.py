"""Measure by linear probes how useful each timestep of a teacher is."""

from .prober import MAX_IMAGES, Prober
from .scores import Score, check_settings, read_scores, write_scores
from .summary import (
    ProbeResult,
    best_curve,
    draw_scores,
    find_good_range,
    mean_curves,
    read_result,
    recommend,
)

__all__ = [
    'MAX_IMAGES',
    'ProbeResult',
    'Prober',
    'Score',
    'best_curve',
    'check_settings',
    'draw_scores',
    'find_good_range',
    'mean_curves',
    'read_result',
    'read_scores',
    'recommend',
    'write_scores',
]
