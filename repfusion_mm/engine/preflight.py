"""Check model and data before the first iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List, Optional

import torch
from mmengine.dist import all_gather_object, get_world_size
from torch.utils.data import BatchSampler

from repfusion_mm.datasets.image_files import is_local
from repfusion_mm.datasets.wrappers import get_wrapped

#: The existence of files is checked for this many labeled images at most.
MAX_FILES = 10_000
#: Which decoder reads which label of an info.
LABEL_KEYS = {
    'gt_label': 'ClsDecoder',
    'seg_map_path': 'SegDecoder',
    'keypoints': 'KeypointDecoder',
}


def check_batches(dataloader: Any) -> None:
    """Refuse an epoch without a batch, or with a batch of one image.

    Batch normalization cannot compute statistics from one image.
    """
    batches = dataloader.batch_sampler
    size, num_images = batches.batch_size, len(batches.sampler)
    if len(dataloader) == 0:
        raise ValueError(
            f'expected at least one batch of {size} images, got {num_images} '
            'images; lower train_dataloader.batch_size'
        )
    if not batches.drop_last and size > 1 and num_images % size == 1:
        inner = getattr(batches, 'batches', batches)
        owner = '' if type(inner) is BatchSampler else '.batch_sampler'
        raise ValueError(
            f'expected batches of more than one image, got {num_images} '
            f'images in batches of {size}, the last of one; set '
            f'train_dataloader{owner}.drop_last=True'
        )


def check_sizes(data_batch: dict) -> None:
    """Refuse a batch that the data preprocessor would pad with black."""
    if torch.is_tensor(data_batch['inputs']):
        return
    sizes = [tuple(image.shape[-2:]) for image in data_batch['inputs']]
    usual = max(set(sizes), key=sizes.count)
    odd = [i for i, size in enumerate(sizes) if size != usual]
    if odd:
        sample = data_batch['data_samples'][odd[0]]
        path = getattr(sample, 'img_path', 'an image without a path')
        raise ValueError(
            f'expected images of one size in a batch, got {usual} and '
            f'{sizes[odd[0]]} ({path}); resize them in the pipeline, or set '
            'pad_if_needed of RandomCrop'
        )


def check_baseline(policy: Any, dataloader: Any) -> None:
    """Refuse batches that are too small for the batch baseline."""
    size = dataloader.batch_sampler.batch_size * get_world_size()
    if policy.baseline.kind == 'batch' and size < 2:
        raise ValueError(
            'expected batches of two images or more, because the baseline of '
            "a reward is the mean of the others (policy.baseline='batch'), "
            f'got train_dataloader.batch_size={size}; increase it, or set '
            "model.policy.baseline='ema'"
        )


def check_seeds() -> None:
    """Refuse processes that would draw the same random numbers."""
    seeds = all_gather_object(torch.initial_seed())
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            'expected another random seed on each process, so that they draw '
            f'different timesteps, got {seeds}; set '
            'randomness=dict(seed=0, diff_rank_seed=True)'
        )


def check_labels(dataset: Any, model: Any) -> None:
    """Refuse labels that do not fit, and a learned policy without any."""
    decoder, key = model.decoder, model.decoder.info_key
    labels = find_labels(dataset, key)
    decoder.check_labels(labels)
    if model.policy.learnable and not labels:
        raise ValueError(
            'expected labeled images, whose rewards train the policy, with '
            f'{key}, which {type(decoder).__name__} reads, got '
            f'{type(dataset).__name__} with {describe_labels(dataset)}; give '
            'labels to some images, change model.decoder, or use '
            'FixedTimestepPolicy or UniformTimestepPolicy'
        )


def find_labels(dataset: Any, key: str) -> list:
    """Return the labels (``key`` of an info) of all labeled images.

    Raises:
        FileNotFoundError: Local files of labeled images are missing.
    """
    labels, missing = [], []
    for leaf in iter_leaves(dataset):
        args = find_backend_args(leaf)
        for info in iter_infos(leaf):
            if key not in info:
                continue
            labels.append(info[key])
            if len(labels) > MAX_FILES:
                continue
            paths = [info.get('img_path'), info.get('seg_map_path')]
            missing += [
                str(path)
                for path in filter(None, paths)
                if all(is_local(str(path), arg) for arg in args)
                and not Path(path).exists()
            ]
    if missing:
        raise FileNotFoundError(
            f'expected a file for every labeled image, got {len(missing)} '
            f'missing files: {missing[:5]}; correct the list of labels or '
            'its data_prefix'
        )
    return labels


def describe_labels(dataset: Any) -> str:
    """Return which labels a dataset has, and which decoders read them."""
    keys = {key for info in iter_infos(dataset) for key in info}
    found = [
        f'{key}, which {decoder} reads'
        for key, decoder in LABEL_KEYS.items()
        if key in keys
    ]
    return ', '.join(found) or 'no labels'


def find_ignore_index(dataset: Any, model: Any) -> int:
    """Return the class of pixels to ignore: the decoder's, or without a
    decoder for masks the dataset's, or 255."""
    index = getattr(model.decoder, 'ignore_index', None)
    if index is not None:
        return index
    indices = [
        part.ignore_index
        for part in iter_leaves(dataset)
        if hasattr(part, 'ignore_index')
    ]
    return indices[0] if indices else 255


def iter_infos(dataset: Any) -> Iterator[dict]:
    """Yield the infos of a dataset, or of those that it wraps."""
    for leaf in iter_leaves(dataset):
        if hasattr(leaf, 'get_data_info'):
            for index in range(len(leaf)):
                yield leaf.get_data_info(index)


def iter_leaves(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, or those that it wraps."""
    parts = get_wrapped(dataset)
    if parts is None:
        yield dataset
    for part in parts or ():
        yield from iter_leaves(part)


def find_backend_args(dataset: Any) -> List[Optional[dict]]:
    """Return the file backends of a dataset and of its transforms."""
    pipeline = getattr(dataset, 'pipeline', None)
    owners = [dataset, *getattr(pipeline, 'transforms', ())]
    return [
        getattr(owner, name, None)
        for owner in owners
        for name in ('backend_args', 'file_client_args')
    ]
