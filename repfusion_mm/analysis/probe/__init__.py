"""Measure how much each timestep of a teacher says about labels."""

from .measurement import Measurement
from .prober import Prober
from .results import find_best, read_best, within_one_se, write_table
from .tasks import LeaveOneOutRidge
from .verdict import describe

__all__ = [
    'LeaveOneOutRidge', 'Measurement', 'Prober', 'describe', 'find_best',
    'read_best', 'within_one_se', 'write_table',
]  # fmt: skip
