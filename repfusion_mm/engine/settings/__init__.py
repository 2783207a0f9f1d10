"""Find the settings of a run that nothing reads."""

from .built import check_modules, check_run
from .names import check_names, find_typo, suggest
from .values import check_types, check_values

__all__ = [
    'check_modules', 'check_names', 'check_run', 'check_types',
    'check_values', 'find_typo', 'suggest',
]  # fmt: skip
