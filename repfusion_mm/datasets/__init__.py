# Data sets need their own project: registry.py imports them by name.
from .samplers import ProportionalSampler
from .transforms import LoadImage

__all__ = ['LoadImage', 'ProportionalSampler']
