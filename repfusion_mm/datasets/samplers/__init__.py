from .proportional_sampler import ProportionalSampler
from .seeded_batch_sampler import (
    SeededBatch,
    SeededBatches,
    SeededBatchSampler,
)

__all__ = [
    'ProportionalSampler',
    'SeededBatch',
    'SeededBatchSampler',
    'SeededBatches',
]
