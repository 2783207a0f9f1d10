"""Let a training loop continue at the batch after its last one."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Iterator

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from repfusion_mm.datasets import SeededBatchSampler, SeededConcatDataset
from repfusion_mm.utils.compat import LOOPS_SKIP

CONFIG = """
train_dataloader = dict(
    batch_sampler=dict(
        type='repfusion_mm.SeededBatchSampler', drop_last=...),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset', datasets=[dict(...)]))
without drop_last in train_dataloader itself"""


def check_seeded(loader: DataLoader) -> None:
    """Refuse a dataloader whose batches are not seeded.

    Raises:
        ValueError: It has another batch sampler than ``SeededBatchSampler``,
            or its data set is no ``SeededConcatDataset``.
    """
    sampler, dataset = loader.batch_sampler, loader.dataset
    # mmengine's num_batch_per_epoch wraps the data set, and passes on what it
    # is asked for.
    method = getattr(dataset, '__getitems__', None)
    owner = getattr(method, '__self__', dataset)
    if isinstance(sampler, SeededBatchSampler) and isinstance(
        owner, SeededConcatDataset
    ):
        return
    raise ValueError(
        'expected a train_dataloader with SeededBatchSampler and '
        f'SeededConcatDataset for ExactResumeHook, got '
        f'{type(sampler).__name__} and {type(owner).__name__}; set{CONFIG}, '
        'or remove ExactResumeHook'
    )


def fast_forward(loop: BaseLoop) -> None:
    """Let mmengine's training loop continue after the batches it has done.

    On its own, an ``EpochBasedTrainLoop`` would start the epoch again, and an
    ``IterBasedTrainLoop`` would read all past batches to drop them.

    Args:
        loop: A training loop that was built or resumed, and has not begun,
            with a ``SeededBatchSampler``.
    """
    loader = loop.dataloader
    if not hasattr(loop, 'dataloader_iterator'):
        num_done = loop.iter - loop.epoch * len(loader)
        loader.batch_sampler.num_skipped = num_done
        return
    num_ignored = loop.iter  # that the loop asks for, to drop them
    if hasattr(loop, 'fast_forward_on_resume'):  # onedl-mmengine
        loop.fast_forward_on_resume = True
        num_ignored = 0
    elif not LOOPS_SKIP:
        num_ignored = 0
    # The loop has started workers already, before the batches were seeded and
    # before PreemptionHook could initialize the workers.
    loader._iterator = None
    loop.dataloader_iterator = chain(
        repeat(None, num_ignored), endless_batches(loader, loop.iter)
    )


def endless_batches(loader: DataLoader, num_done: int) -> Iterator:
    """Yield batches over and over, without those that were done before.

    Replaces mmengine's ``_InfiniteDataloaderIterator``, which cannot start
    after a number of batches.

    Raises:
        ValueError: The data set has fewer images than a batch takes.
    """
    batch_sampler = loader.batch_sampler
    sampler = batch_sampler.sampler
    if isinstance(sampler, InfiniteSampler):  # one endless epoch
        epoch, num_skipped = 0, num_done
        # Its indices can be iterated once, and the loop has begun to.
        sampler.indices = InfiniteSampler(
            sampler.dataset, sampler.shuffle, sampler.seed
        ).indices
    elif len(loader) == 0:
        raise ValueError(
            f'expected at least one batch of {batch_sampler.batch_size} '
            f'images, got {len(sampler)} images; lower '
            'train_dataloader.batch_size'
        )
    else:
        epoch, num_skipped = divmod(num_done, len(loader))
    while True:
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        batch_sampler.num_skipped = num_skipped
        yield from loader
        epoch, num_skipped = epoch + 1, 0
