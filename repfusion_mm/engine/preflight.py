"""What can be known before the first iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import torch
import torch.nn as nn
from mmengine.dist import all_gather_object, get_world_size
from torch.utils.data import DataLoader, Dataset

from repfusion_mm.datasets.wrappers import get_wrapped

#: More labelled files than this are left to the data loader to find.
MAX_FILES = 10_000
#: Which decoder reads which label of an info.
LABEL_KEYS = {
    'gt_label': 'ClsDecoder',
    'seg_map_path': 'SegDecoder',
    'keypoints': 'KeypointDecoder',
}


def check_batches(dataloader: DataLoader) -> None:
    """Refuse an epoch without a batch, or with a batch of one image.

    Raises:
        ValueError: There are fewer images than a batch takes, or the last
            batch has one image, of which batch norm has no statistics.
    """
    batches = dataloader.batch_sampler
    size, num_images = batches.batch_size, len(batches.sampler)
    if len(dataloader) == 0:
        raise ValueError(
            f'expected at least one batch of {size} images, got {num_images} '
            'images; lower train_dataloader.batch_size'
        )
    if not batches.drop_last and size > 1 and num_images % size == 1:
        raise ValueError(
            f'expected batches of more than one image, got {num_images} '
            f'images in batches of {size}, the last of one; set '
            f'{drop_last_setting(dataloader)}=True'
        )


def drop_last_setting(dataloader: DataLoader) -> str:
    """Return the name of the setting that drops an incomplete batch."""
    if dataloader.batch_size is None:  # there is a batch sampler of its own
        return 'train_dataloader.batch_sampler.drop_last'
    return 'train_dataloader.drop_last'


def check_sizes(data_batch: dict) -> None:
    """Refuse a batch that the data preprocessor would pad with black.

    Raises:
        ValueError: The images are not of one size.
    """
    if torch.is_tensor(data_batch['inputs']):
        return
    sizes = [tuple(image.shape[-2:]) for image in data_batch['inputs']]
    usual = max(set(sizes), key=sizes.count)
    odd = [i for i, size in enumerate(sizes) if size != usual]
    if odd:
        sample = data_batch['data_samples'][odd[0]]
        raise ValueError(
            f'expected images of one size in a batch, got {usual} and '
            f'{sizes[odd[0]]}, that of {getattr(sample, "img_path", "one")}; '
            'let the pipeline resize it, or give RandomCrop pad_if_needed'
        )


def check_baseline(policy: nn.Module, dataloader: DataLoader) -> None:
    """Refuse batches in which no image has others to be compared with.

    Raises:
        ValueError: The baseline is the mean reward of the others in a batch,
            and a batch has one image over all processes.
    """
    size = dataloader.batch_sampler.batch_size * get_world_size()
    if policy.baseline.kind == 'batch' and size < 2:
        raise ValueError(
            'expected batches of two images or more, by which the reward of '
            "each is judged (policy.baseline='batch'), got "
            f'train_dataloader.batch_size={size}; raise it, or set '
            "model.policy.baseline='ema'"
        )


def check_seeds() -> None:
    """Refuse processes that would draw the same random numbers.

    Raises:
        ValueError: Two processes have the same seed.
    """
    seeds = all_gather_object(torch.initial_seed())
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            'expected another random seed on each process, which draw '
            f'timesteps of their own, got {seeds}; set '
            'randomness=dict(seed=0, diff_rank_seed=True)'
        )


def find_labels(dataset: Dataset, key: str) -> list:
    """Return the labels of all labelled images of a data set.

    Args:
        dataset: A data set, or one that wraps others.
        key: What holds the label in an info: ``'gt_label'``,
            ``'seg_map_path'`` or ``'keypoints'``.

    Raises:
        FileNotFoundError: Local files of labelled images are missing.
    """
    labels, missing = [], []
    for info in infos_of(dataset):
        if key not in info:
            continue
        labels.append(info[key])
        if len(labels) > MAX_FILES:
            continue
        paths = [info.get('img_path'), info.get('seg_map_path')]
        missing += [
            str(path)
            for path in paths
            if path and '://' not in str(path) and not Path(path).exists()
        ]
    if missing:
        raise FileNotFoundError(
            f'expected a file for every labelled image, got {len(missing)} '
            f'that are missing: {missing[:5]}; mend the list of labels or '
            'its data_prefix'
        )
    return labels


def describe_labels(dataset: Dataset) -> str:
    """Say which labels a data set has, and which decoders read them."""
    keys = {k for info in infos_of(dataset) for k in LABEL_KEYS if k in info}
    return (
        ', '.join(
            f'{key}, which {decoder} reads'
            for key, decoder in LABEL_KEYS.items()
            if key in keys
        )
        or 'no labels at all'
    )


def infos_of(dataset: Dataset) -> Iterator[dict]:
    """Yield the infos of a data set, or of those that it wraps."""
    parts = get_wrapped(dataset)
    if parts is not None:
        for part in parts:
            yield from infos_of(part)
    elif hasattr(dataset, 'get_data_info'):
        for index in range(len(dataset)):
            yield dataset.get_data_info(index)
