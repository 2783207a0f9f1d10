"""Compare teachers on labeled images: their scores and their costs."""

from .candidates import Settings, check_candidates, probe_candidates
from .figure import draw_comparison
from .results import Point, format_comparison, write_points

__all__ = [
    'Point',
    'Settings',
    'check_candidates',
    'draw_comparison',
    'format_comparison',
    'probe_candidates',
    'write_points',
]
