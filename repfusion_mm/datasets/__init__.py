from .samplers import ProportionalSampler

__all__ = ['ProportionalSampler']
