"""Read each batch with its own seed."""

from __future__ import annotations

from typing import List, Sequence, Union

from mmengine.dataset import ConcatDataset

from repfusion_mm.datasets.samplers.seeded_batch_sampler import SeededBatch
from repfusion_mm.registry import DATASETS
from repfusion_mm.utils.seeding import seeded


@DATASETS.register_module()
class SeededConcatDataset(ConcatDataset):
    """Concatenate datasets, and read the batches of a SeededBatchSampler.

    All random operations of the pipelines are seeded by the batch, in the
    process that reads it; the states of the random number generators are
    restored afterwards. Batches of other batch samplers are read unseeded.

    Args:
        datasets: One or several datasets, or their configs.
        lazy_init: As in mmengine's ``ConcatDataset``.
        ignore_keys: As in mmengine's ``ConcatDataset``.
    """

    def __getitems__(self, batch: Union[SeededBatch, Sequence[int]]) -> List:
        """Read a batch. torch's DataLoader calls this where it is defined."""
        if not isinstance(batch, SeededBatch):
            return [self[index] for index in batch]
        with seeded(*batch.seed):
            return [self[index] for index in batch.indices]
