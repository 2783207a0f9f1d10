"""Check batches before the first iteration."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather_object, get_world_size
from torch.utils.data import BatchSampler


def check_packed(batch: dict) -> None:
    """Refuse a pipeline that does not pack its images."""
    if 'inputs' not in batch:
        raise ValueError(
            'expected batches with inputs and data_samples, got '
            f'{", ".join(batch)}; end the pipeline with PackInputs'
        )


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
