"""Find the settings of a run that nothing reads."""

from .built import check_run
from .names import check_names, find_nearest, suggest

__all__ = ['check_names', 'check_run', 'find_nearest', 'suggest']
