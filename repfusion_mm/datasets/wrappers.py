"""Walk through datasets that wrap other datasets."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Sequence

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


def iter_infos(leaf: Any) -> Iterator[dict]:
    """Yield the infos of a dataset, if it has any."""
    if hasattr(leaf, 'get_data_info'):
        for index in range(len(leaf)):
            yield leaf.get_data_info(index)


def iter_readers(dataset: Any) -> Iterator[Any]:
    """Yield the outermost datasets that return what the model gets.

    These are those that wrap no others, and wrappers with a pipeline.
    """
    parts = get_wrapped(dataset)
    if parts is None or getattr(dataset, 'pipeline', None):
        yield dataset
        return
    for part in parts:
        yield from iter_readers(part)


def iter_leaves(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, or those that it wraps."""
    parts = get_wrapped(dataset)
    if parts is None:
        yield dataset
    for part in parts or ():
        yield from iter_leaves(part)


def find_backend_args(dataset: Any) -> List[Optional[dict]]:
    """Return the file backends of a dataset and of its transforms."""
    owners = [dataset, *get_transforms(dataset)]
    return [
        getattr(owner, name, None)
        for owner in owners
        for name in ('backend_args', 'file_client_args')
    ]


def get_transforms(dataset: Any) -> Sequence:
    """Return the transforms of a dataset's pipeline."""
    pipeline = getattr(dataset, 'pipeline', None) or ()
    if not isinstance(pipeline, (list, tuple)):
        pipeline = getattr(pipeline, 'transforms', ())
    return pipeline
