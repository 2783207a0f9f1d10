"""Read each batch with its own seed."""

from __future__ import annotations

from typing import Any, List, Sequence, Union

import numpy as np
from mmengine.dataset import BaseDataset, ConcatDataset

from repfusion_mm.datasets.samplers.seeded_batch_sampler import SeededBatch
from repfusion_mm.registry import DATASETS
from repfusion_mm.utils.seeding import seeded


@DATASETS.register_module()
class SeededConcatDataset(ConcatDataset):
    """Concatenate datasets, and read the batches of a SeededBatchSampler.

    All random operations of the pipelines are seeded by the batch, in the
    process that reads it; the states of the random number generators are
    restored afterwards. Batches of other batch samplers are read unseeded.

    In contrast to mmengine's ``ConcatDataset``, a dataset may lack meta
    information that another one has, such as the classes of labeled images.

    Args:
        datasets: One or several datasets, or their configs.
        lazy_init: As in mmengine's ``ConcatDataset``.
        ignore_keys: Meta information that may differ; that of the first
            dataset that has it is used.

    Raises:
        ValueError: Two datasets have different meta information.
    """

    def __init__(
        self,
        datasets: Sequence[Union[BaseDataset, dict]],
        lazy_init: bool = False,
        ignore_keys: Union[str, List[str], None] = None,
    ) -> None:
        first, *others = datasets
        super().__init__([first], lazy_init=True, ignore_keys=ignore_keys)
        for other in others:
            part = ConcatDataset([other], lazy_init=True)
            self._add_metainfo(part.metainfo, len(self.datasets))
            self.datasets.extend(part.datasets)
        if not lazy_init:
            self.full_init()

    def _add_metainfo(self, metainfo: dict, index: int) -> None:
        for key, value in metainfo.items():
            known = self._metainfo.setdefault(key, value)
            if key not in self.ignore_keys and not _is_equal(known, value):
                raise ValueError(
                    f'expected the same {key} in all datasets that have it, '
                    f'got {str(known)[:200]}, but {str(value)[:200]} in '
                    f'datasets[{index}]; correct it, or set '
                    f'ignore_keys=[{key!r}]'
                )

    def __getitems__(self, batch: Union[SeededBatch, Sequence[int]]) -> List:
        """Read a batch. torch's DataLoader calls this where it is defined."""
        if not isinstance(batch, SeededBatch):
            return [self[index] for index in batch]
        with seeded(*batch.seed):
            return [self[index] for index in batch.indices]


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal; they may be arrays."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return [*one] == [*other]
    return one == other
