"""Data sets that wrap other data sets."""

from __future__ import annotations

from typing import Optional

from torch.utils.data import Dataset


def get_wrapped(dataset: Dataset) -> Optional[list]:
    """Return the data sets that a wrapper holds.

    Args:
        dataset: A data set, or a wrapper with ``datasets`` (as
            ``ConcatDataset``) or ``dataset`` (as ``RepeatDataset``).

    Returns:
        The wrapped data sets; None if ``dataset`` is not a wrapper.
    """
    wrapped = getattr(dataset, 'datasets', None)
    if wrapped is None and hasattr(dataset, 'dataset'):
        wrapped = [dataset.dataset]
    return wrapped
