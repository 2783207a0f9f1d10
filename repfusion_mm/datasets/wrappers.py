"""Walk through datasets that wrap other datasets.

A *leaf* is a dataset that wraps no others. A *reader* is a dataset that
returns what the model gets: a wrapper with a pipeline, or a leaf. The *infos*
of a leaf are the entries of its list of images (``get_data_info``), which its
pipeline then loads.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from mmengine.dataset import BaseDataset
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


def iter_paths(dataset: Any) -> Iterator[Tuple[Any, ...]]:
    """Yield each leaf, preceded by the datasets that wrap it.

    A wrapper may have a pipeline too, as mmpose's ``CombinedDataset``.
    """
    parts = get_wrapped(dataset)
    if parts is None:
        yield (dataset,)
    for part in parts or ():
        for path in iter_paths(part):
            yield (dataset, *path)


def iter_leaves(dataset: Any) -> Iterator[Any]:
    """Yield the leaves of a dataset."""
    return (path[-1] for path in iter_paths(dataset))


def iter_readers(dataset: Any) -> Iterator[Any]:
    """Yield the outermost readers, each once."""
    readers = [
        next((i for i in path if getattr(i, 'pipeline', None)), path[-1])
        for path in iter_paths(dataset)
    ]
    return iter({id(reader): reader for reader in readers}.values())


def iter_infos(leaf: Any) -> Iterator[dict]:
    """Yield the infos of a leaf, if it has any."""
    if hasattr(leaf, 'get_data_info'):
        for index in range(len(leaf)):
            yield leaf.get_data_info(index)


def iter_pipelines(dataset: Any) -> Iterator[Tuple[Any, List[Callable]]]:
    """Yield each leaf with infos, and the pipelines applied to it in order.

    The pipelines are copies: transforms such as mmdet's ``CachedMosaic`` keep
    images, and would mix those of a check into the training.
    """
    for path in iter_paths(dataset):
        if hasattr(path[-1], 'get_data_info') and len(path[-1]):
            found = (getattr(i, 'pipeline', None) for i in reversed(path))
            yield path[-1], [_copy(i) for i in found if callable(i)]


@contextlib.contextmanager
def copied_pipelines(dataset: Any) -> Iterator[None]:
    """Let all parts of a dataset use copies of their pipelines.

    What transforms keep of images that are read meanwhile is discarded.
    """
    parts = {id(part): part for path in iter_paths(dataset) for part in path}
    owners = [i for i in parts.values() if callable(getattr(i, 'pipeline', 0))]
    pipelines = [owner.pipeline for owner in owners]
    try:
        for owner, pipeline in zip(owners, pipelines):
            owner.pipeline = _copy(pipeline)
        yield
    finally:
        for owner, pipeline in zip(owners, pipelines):
            owner.pipeline = pipeline


def _copy(pipeline: Callable) -> Callable:
    try:
        return copy.deepcopy(pipeline)
    except Exception:  # of open files, such as those of LMDB
        return pipeline


def find_backend_args(dataset: Any) -> List[Optional[dict]]:
    """Return the file backends of a dataset and of its transforms."""
    owners = [dataset, *get_transforms(dataset)]
    return [
        getattr(owner, name, None)
        for owner in owners
        for name in ('backend_args', 'file_client_args')
    ]


def check_filter(dataset: BaseDataset) -> None:
    """Raise a ValueError for a ``filter_cfg`` that a dataset ignores."""
    if (
        dataset.filter_cfg
        and type(dataset).filter_data is BaseDataset.filter_data
    ):
        raise ValueError(
            f'expected no filter_cfg of {type(dataset).__name__}, which '
            f'filters nothing, got {dataset.filter_cfg}; leave it out, and '
            'list the images in ann_file'
        )


def get_transforms(dataset: Any) -> Sequence:
    """Return the transforms of a dataset's pipeline."""
    pipeline = getattr(dataset, 'pipeline', None) or ()
    if not isinstance(pipeline, (list, tuple)):
        pipeline = getattr(pipeline, 'transforms', ())
    return pipeline
