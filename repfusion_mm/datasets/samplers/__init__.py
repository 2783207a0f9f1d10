from .proportional_sampler import ProportionalSampler

__all__ = ['ProportionalSampler']
