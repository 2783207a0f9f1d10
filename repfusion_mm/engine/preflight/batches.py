"""Check batches before the first iteration."""

from __future__ import annotations

import logging
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import all_gather_object, get_world_size
from mmengine.logging import print_log
from torch.utils.data import BatchSampler, RandomSampler

from repfusion_mm.datasets.samplers.proportional_sampler import (
    ProportionalSampler,
)

#: Samplers that draw every image of a dataset equally often, shuffled.
UNIFORM_SAMPLERS = (DefaultSampler, InfiniteSampler, RandomSampler)
#: The share of labels is estimated from this many images of each part.
MAX_INFOS = 100_000


def check_packed(batch: dict) -> None:
    """Refuse a pipeline that does not pack its images.

    Raises:
        ValueError: The batch has no ``inputs``.
    """
    if 'inputs' not in batch:
        raise ValueError(
            'expected batches with inputs and data_samples, got '
            f'{", ".join(batch)}; end the pipeline with PackInputs'
        )


def check_batches(dataloader: Any) -> None:
    """Refuse an epoch without a batch, or with a batch of one image.

    Batch normalization cannot compute statistics from one image.

    Raises:
        ValueError: There is no batch, or the last one has one image.
    """
    batches = dataloader.batch_sampler
    if isinstance(batches.sampler, InfiniteSampler) and len(batches.sampler):
        return  # its batches contain images of two passes
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
            f'images in batches of {size}, the last with one image; set '
            f'train_dataloader{owner}.drop_last=True'
        )


def check_loss(model: Any, dataloader: Any) -> None:
    """Refuse batches of fewer images than the distillation loss compares.

    Raises:
        ValueError: A process has too few images.
    """
    loss, size = model.distill_loss, dataloader.batch_sampler.batch_size
    if size < loss.min_images:
        raise ValueError(
            f'expected batches of {loss.min_images} images or more for '
            f'{type(loss).__name__}, which compares images with each other, '
            f'got train_dataloader.batch_size={size}; increase it, or choose '
            'another model.distill_loss'
        )


def check_sizes(data_batch: dict) -> None:
    """Refuse images of several sizes, which would be padded with black.

    Raises:
        ValueError: The images of the batch differ in size.
    """
    check_packed(data_batch)
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
            f'{sizes[odd[0]]} ({path}); resize them in the pipeline '
            '(keep_ratio=False), or add Pad(size=...) after a crop that may '
            "be smaller (pad_if_needed=True of mmpretrain's RandomCrop)"
        )


def check_baseline(model: Any, dataloader: Any) -> None:
    """Refuse batches with too few labels for the batch baseline.

    On average, one labeled image or fewer is an error, fewer than two a
    warning.

    Raises:
        ValueError: A batch has one image, or one labeled image or fewer.
    """
    if model.policy.baseline.kind != 'batch':
        return
    size = dataloader.batch_sampler.batch_size * get_world_size()
    if size < 2:
        raise ValueError(
            'expected batches of two images or more, because the baseline of '
            "a reward is the mean of the others (policy.baseline='batch'), "
            f'got train_dataloader.batch_size={size}; increase it, or set '
            "model.policy.baseline='ema'"
        )
    share = labeled_share(dataloader, model.decoder)
    if not share or size * share >= 2:
        return
    message = (
        'expected two labeled images or more in a batch, because the baseline '
        'of a reward is the mean of the others '
        f"(policy.baseline='batch'), got {size * share:.2g} on average of "
        f'{size}; increase their share, or train_dataloader.batch_size, or '
        "set model.policy.baseline='ema'"
    )
    if size * share <= 1:
        raise ValueError(message)
    print_log(message, logger='current', level=logging.WARNING)


def labeled_share(dataloader: Any, decoder: Any) -> Optional[float]:
    """Return the share of samples with a label, or None if it is unknown.

    It is zero if labels are not in the infos, but added by the pipeline.
    """
    dataset = dataloader.dataset
    sampler = dataloader.batch_sampler.sampler
    if isinstance(sampler, ProportionalSampler):
        parts = getattr(dataset, 'datasets', [dataset])
        weights = np.bincount(sampler.pattern) / len(sampler.pattern)
    elif isinstance(sampler, UNIFORM_SAMPLERS) and getattr(
        sampler, 'shuffle', True
    ):
        parts, weights = [dataset], np.ones(1)
    else:
        return None
    if not all(hasattr(part, 'get_data_info') for part in parts):
        return None
    rng = np.random.default_rng(0)
    shares = []
    for part in parts:
        rows = np.arange(len(part))
        if len(rows) > MAX_INFOS:
            rows = rng.choice(len(rows), MAX_INFOS, replace=False)
        labels = [decoder.find_label(part.get_data_info(int(i))) for i in rows]
        shares.append(np.mean([label is not None for label in labels]))
    return float(np.dot(weights, shares))


def check_seeds() -> None:
    """Refuse processes that would draw the same random numbers.

    Raises:
        ValueError: Two processes have the same seed.
    """
    seeds = all_gather_object(torch.initial_seed())
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            'expected a different random seed on each process, so that they '
            f'draw different timesteps, got {seeds}; set '
            'randomness=dict(seed=0, diff_rank_seed=True)'
        )
