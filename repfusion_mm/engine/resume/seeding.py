"""Seed the batches of a training loop, and continue after the last one."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import Any, Callable, Dict, Iterator, Optional

from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import BaseLoop
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    Subset,
)

from repfusion_mm.datasets import (
    SeededBatch,
    SeededBatches,
    SeededBatchSampler,
    SeededConcatDataset,
)
from repfusion_mm.utils.compat import LOOPS_SKIP

#: Attributes of a DataLoader that do not depend on its batch sampler.
KEPT = (
    'dataset', 'num_workers', 'collate_fn', 'pin_memory', 'timeout',
    'worker_init_fn', 'multiprocessing_context', 'generator',
    'prefetch_factor', 'persistent_workers', 'pin_memory_device', 'in_order',
)  # fmt: skip


def seed_batches(loop: BaseLoop, cfg: object, seed: int) -> None:
    """Let the dataloader of a loop give each batch a seed.

    Args:
        loop: The training loop.
        cfg: The ``train_dataloader`` of the runner.
        seed: Seed of the run.

    Raises:
        ValueError: The order of the images is not that of a batch sampler.
    """
    loader = loop.dataloader
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or loader.batch_sampler is None:
        reason = (
            f'{type(dataset).__name__}, an IterableDataset'
            if isinstance(dataset, IterableDataset)
            else 'batch_size=None'
        )
        raise ValueError(
            'expected a train_dataloader that reads images by index in '
            f'batches, which ExactResumeHook can continue, got {reason}; '
            'use a dataset with __getitem__ and a batch_size, or remove '
            'ExactResumeHook from the hooks'
        )
    batches = loader.batch_sampler
    # An IterBasedTrainLoop has begun to iterate its sampler.
    if hasattr(loop, 'dataloader_iterator') and isinstance(cfg, dict):
        batches = _build_batch_sampler(cfg, loader)
    size = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
    if size is None and isinstance(cfg, dict):  # a batch sampler of one's own
        size = cfg.get('batch_size')
    if not isinstance(batches, SeededBatchSampler):
        batches = SeededBatches(batches, size or 1)
        print_log(
            'ExactResumeHook: each batch of train_dataloader is read with '
            'its own seed',
            logger='current',
        )
    batches.seed = seed
    # A DataLoader gives it the batch without iterating it, which seeds.
    # ConcatDatasets of this package seed themselves.
    read = getattr(dataset, '__getitems__', None)
    if read and not isinstance(dataset, (SeededConcatDataset, Subset)):
        dataset.__getitems__ = partial(_read_seeded, read)
    if batches is not loader.batch_sampler:
        kept = {k: getattr(loader, k) for k in KEPT if hasattr(loader, k)}
        loop.dataloader = DataLoader(batch_sampler=batches, **kept)
    # torch gives a DataLoader with a batch sampler no batch size, and another
    # sampler; it uses neither. Hooks (PreciseBNHook of mmpretrain) read them.
    vars(loop.dataloader).update(batch_size=size, sampler=batches.sampler)


def _read_seeded(read: Callable, batch: SeededBatch) -> Any:
    return read([*batch])  # which seeds the generators


def _build_batch_sampler(cfg: dict, loader: DataLoader) -> Any:
    """Build the batch sampler of a config once more, as mmengine does."""
    batches: Any = loader.batch_sampler
    sampler: Any = getattr(batches, 'sampler', None)
    seed = getattr(sampler, 'seed', None)
    if isinstance(cfg.get('sampler'), dict):
        sampler = DATA_SAMPLERS.build(
            cfg['sampler'],
            default_args=dict(dataset=loader.dataset, seed=seed),
        )
    if isinstance(cfg.get('batch_sampler'), dict):
        return DATA_SAMPLERS.build(
            cfg['batch_sampler'],
            default_args=dict(sampler=sampler, batch_size=cfg['batch_size']),
        )
    if cfg.get('batch_sampler') is not None:
        return batches
    return BatchSampler(sampler, batches.batch_size, batches.drop_last)


def fast_forward(loop: BaseLoop, position: Optional[dict] = None) -> None:
    """Let mmengine's training loop continue after the batches it has done.

    On its own, an ``EpochBasedTrainLoop`` would start the epoch again, and an
    ``IterBasedTrainLoop`` would read all past batches to drop them.

    Args:
        loop: The training loop.
        position: :attr:`EndlessBatches.position` of the checkpoint.
    """
    loader = loop.dataloader
    if not hasattr(loop, 'dataloader_iterator'):
        replay_epochs(loader.batch_sampler, loop.epoch)
        num_done = loop.iter - loop.epoch * len(loader)
        loader.batch_sampler.num_skipped = num_done
        if num_done:
            print_log(
                f'the epoch continues after {num_done} batches; its positions '
                'in the log are counted from there',
                logger='current',
            )
        return
    # A resumed IterBasedTrainLoop drops as many batches as it has done.
    num_ignored = loop.iter if LOOPS_SKIP else 0
    if hasattr(loop, 'fast_forward_on_resume'):  # onedl-mmengine
        loop.fast_forward_on_resume = True
        num_ignored = 0
    # The loop has started workers already, before the batches were seeded and
    # before PreemptionHook could initialize the workers.
    loader._iterator = None
    loop.dataloader_iterator = EndlessBatches(
        loader, loop.iter, num_ignored, position
    )


def replay_epochs(batches: SeededBatchSampler, num_epochs: int) -> None:
    """Draw the indices of past epochs again, without reading images.

    Only for samplers without an ``epoch``, which may depend on what they drew
    before.
    """
    if hasattr(batches.sampler, 'epoch'):
        return
    for epoch in range(num_epochs):
        batches.epoch = epoch
        for _ in batches:
            pass


class EndlessBatches:
    """Iterate over batches endlessly, after those that a run has used.

    Replaces mmengine's ``_InfiniteDataloaderIterator``, which cannot skip.

    Args:
        loader: A dataloader with a ``SeededBatchSampler``.
        num_done: Number of batches that the run has used.
        num_ignored: Number of times that None is returned first.
        position: Where the run stopped; by default computed from
            ``num_done`` and the length of an epoch.
    """

    def __init__(
        self,
        loader: Any,
        num_done: int,
        num_ignored: int = 0,
        position: Optional[Dict[str, int]] = None,
    ) -> None:
        sampler = loader.batch_sampler.sampler
        if isinstance(sampler, InfiniteSampler):  # one endless epoch
            # Its indices can be iterated once, and the loop has begun to.
            sampler.indices = InfiniteSampler(
                sampler.dataset, sampler.shuffle, sampler.seed
            ).indices
        if position is None:
            epoch, num_used = 0, num_done
            if not isinstance(sampler, InfiniteSampler):
                epoch, num_used = divmod(num_done, len(loader))
            position = dict(epoch=epoch, batch=num_used)
        #: Number of the pass over the sampler, and of batches used of it.
        self.position = dict(position)
        self._ignored = repeat(None, num_ignored)
        self._batches = self._iterate(loader)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        for _ in self._ignored:
            return None
        return next(self._batches)

    def _iterate(self, loader: Any) -> Iterator:
        batches, position = loader.batch_sampler, self.position
        replay_epochs(batches, position['epoch'])
        batches.num_skipped = position['batch']
        while True:
            batches.epoch = position['epoch']
            if hasattr(batches.sampler, 'set_epoch'):
                batches.sampler.set_epoch(batches.epoch)
            for batch in loader:
                position['batch'] += 1
                yield batch
            position.update(epoch=position['epoch'] + 1, batch=0)
