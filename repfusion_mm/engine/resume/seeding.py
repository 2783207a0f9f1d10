"""Let a training loop continue at the batch after its last one."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any, Iterator

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from repfusion_mm.datasets import SeededBatchSampler, SeededConcatDataset
from repfusion_mm.utils.compat import LOOPS_SKIP

CONFIG = """train_dataloader = dict(
    # drop_last moves from here into batch_sampler
    batch_sampler=dict(
        type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset', datasets=[dict(...)]))"""


def check_seeded(loader: DataLoader) -> None:
    """Refuse a dataloader whose batches are not seeded."""
    # The owner of the method, because num_batch_per_epoch of a config wraps
    # the dataset in an object that passes on its attributes.
    method = getattr(loader.dataset, '__getitems__', None)
    dataset = getattr(method, '__self__', loader.dataset)
    if isinstance(loader.batch_sampler, SeededBatchSampler) and isinstance(
        dataset, SeededConcatDataset
    ):
        return
    raise ValueError(
        'expected a train_dataloader with SeededBatchSampler and '
        'SeededConcatDataset for ExactResumeHook, got '
        f'{type(loader.batch_sampler).__name__} and {type(dataset).__name__}; '
        'wrap the dataset and name the batch sampler:\n'
        f'{CONFIG}\nor remove ExactResumeHook from default_hooks'
    )


def fast_forward(loop: BaseLoop) -> None:
    """Let mmengine's training loop continue after the batches it has done.

    On its own, an ``EpochBasedTrainLoop`` would start the epoch again, and an
    ``IterBasedTrainLoop`` would read all past batches to drop them.
    """
    loader = loop.dataloader
    if not hasattr(loop, 'dataloader_iterator'):
        num_done = loop.iter - loop.epoch * len(loader)
        loader.batch_sampler.num_skipped = num_done
        return
    # A resumed IterBasedTrainLoop drops as many batches as it has done.
    num_ignored = loop.iter if LOOPS_SKIP else 0
    if hasattr(loop, 'fast_forward_on_resume'):  # onedl-mmengine
        loop.fast_forward_on_resume = True
        num_ignored = 0
    # The loop has started workers already, before the batches were seeded and
    # before PreemptionHook could initialize the workers.
    loader._iterator = None
    loop.dataloader_iterator = chain(
        repeat(None, num_ignored), endless_batches(loader, loop.iter)
    )


def endless_batches(loader: Any, num_done: int) -> Iterator:
    """Yield batches endlessly, after the first ``num_done``.

    Replaces mmengine's ``_InfiniteDataloaderIterator``, which cannot skip.
    """
    batch_sampler = loader.batch_sampler
    sampler = batch_sampler.sampler
    if isinstance(sampler, InfiniteSampler):  # one endless epoch
        epoch, num_skipped = 0, num_done
        # Its indices can be iterated once, and the loop has begun to.
        sampler.indices = InfiniteSampler(
            sampler.dataset, sampler.shuffle, sampler.seed
        ).indices
    else:
        epoch, num_skipped = divmod(num_done, len(loader))
    while True:
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        batch_sampler.num_skipped = num_skipped
        yield from loader
        epoch, num_skipped = epoch + 1, 0
