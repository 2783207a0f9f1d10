from .base import TimestepPolicy
from .learned import LearnedTimestepPolicy
from .static import FixedTimestepPolicy, UniformTimestepPolicy

__all__ = [
    'FixedTimestepPolicy',
    'LearnedTimestepPolicy',
    'TimestepPolicy',
    'UniformTimestepPolicy',
]
