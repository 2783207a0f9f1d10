"""Datasets that wrap other datasets."""

from __future__ import annotations

from typing import Optional

from torch.utils.data import Dataset


def get_wrapped(dataset: Dataset) -> Optional[list]:
    """Return the datasets that a wrapper holds, None for other datasets.

    Wrappers have ``datasets`` (as ``ConcatDataset``) or ``dataset`` (as
    ``RepeatDataset``).
    """
    wrapped = getattr(dataset, 'datasets', None)
    if wrapped is None and hasattr(dataset, 'dataset'):
        wrapped = [dataset.dataset]
    return wrapped
