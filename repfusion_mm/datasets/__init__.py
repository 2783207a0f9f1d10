# Data sets need their project, and are imported by name alone: registry.py.
from .samplers import ProportionalSampler

__all__ = ['ProportionalSampler']
