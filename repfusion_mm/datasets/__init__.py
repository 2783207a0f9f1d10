from importlib import import_module

from repfusion_mm.registry import DATASETS

from .samplers import (
    ProportionalSampler,
    SeededBatch,
    SeededBatches,
    SeededBatchSampler,
)
from .seeded_concat_dataset import SeededConcatDataset
from .transforms import BoxesToMask, LoadImage

__all__ = [
    'BoxesToMask',
    'LoadImage',
    'ProportionalSampler',
    'SeededBatch',
    'SeededBatchSampler',
    'SeededBatches',
    'SeededConcatDataset',
]


def __getattr__(name: str) -> object:
    """Import a dataset when it is used, as it may need its own project."""
    if name not in DATASETS.modules:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(DATASETS.modules[name]), name)
