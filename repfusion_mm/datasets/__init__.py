# Datasets need their own project: registry.py imports them by name.
from .samplers import (
    ProportionalSampler,
    SeededBatch,
    SeededBatches,
    SeededBatchSampler,
)
from .seeded_concat_dataset import SeededConcatDataset
from .transforms import LoadImage

__all__ = [
    'LoadImage',
    'ProportionalSampler',
    'SeededBatch',
    'SeededBatchSampler',
    'SeededBatches',
    'SeededConcatDataset',
]
