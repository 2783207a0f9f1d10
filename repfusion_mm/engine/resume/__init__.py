from .checks import (
    check_immutable_settings,
    check_resumable,
    immutable_settings,
)
from .seeding import check_seeded, fast_forward
from .validation import SkippedValidationHook

__all__ = [
    'SkippedValidationHook',
    'check_immutable_settings',
    'check_resumable',
    'check_seeded',
    'fast_forward',
    'immutable_settings',
]
