"""Random numbers of a batch that depend on nothing but its place."""

from __future__ import annotations

from typing import Iterator, List, Sequence, Tuple

import torch
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader, Dataset, Sampler

from repfusion_mm.datasets.feature_cache.dataset import seeded
from repfusion_mm.utils.compat import LOOPS_SKIP

Key = Tuple[int, ...]


class Draw(int):
    """The index of an image, and where in which epoch it was drawn."""

    def __new__(cls, index: int, key: Key) -> Draw:
        """Attach ``key``, (epoch, position), to an index."""
        draw = super().__new__(cls, index)
        draw.key = key
        return draw

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.key)


class SeededDraws:
    """Say of each index of a sampler where it was drawn.

    Args:
        sampler: Any sampler; its ``epoch`` counts where it has one.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.num_skipped = 0

    @classmethod
    def install(cls, loader: DataLoader, key: Key) -> None:
        """Let a loader seed each batch from ``key`` and the batch's place.

        The loader's own objects stay where they are: its batch sampler draws
        from this instead of the sampler, and its data set gets torch's
        ``__getitems__``, which reads a batch.
        """
        batch_sampler = loader.batch_sampler
        if isinstance(batch_sampler.sampler, cls):
            return
        batch_sampler.sampler = cls(batch_sampler.sampler)
        loader.dataset.__getitems__ = SeededFetch(loader.dataset, key)
        # The seeds that torch hands to workers, which these replace, must not
        # move the random numbers of the training.
        loader.generator = torch.Generator()

    def __iter__(self) -> Iterator[Draw]:
        """Yield the indices of an epoch, once without the first."""
        skipped, self.num_skipped = self.num_skipped, 0
        epoch = getattr(self.sampler, 'epoch', 0)
        for position, index in enumerate(self.sampler):
            if position >= skipped:
                yield Draw(index, (epoch, position))

    def __len__(self) -> int:
        return len(self.sampler)


class SeededFetch:
    """Read a batch with random numbers of its own.

    Args:
        dataset: Where the images are.
        key: What beside the place of a batch seeds it.
    """

    def __init__(self, dataset: Dataset, key: Key) -> None:
        self.dataset = dataset
        self.key = key
        # A data set's own way to read a batch.
        self.fetch = getattr(dataset, '__getitems__', None)

    def __call__(self, draws: Sequence[Draw]) -> List:
        """Read the images, and leave the process's generators alone."""
        indices = [int(draw) for draw in draws]
        with seeded(*self.key, *draws[0].key):
            if self.fetch is not None:
                return self.fetch(indices)
            return [self.dataset[index] for index in indices]


def fast_forward(loop) -> None:
    """Let mmengine's training loop go on behind the batches it has done.

    An ``EpochBasedTrainLoop`` would begin the epoch again; an
    ``IterBasedTrainLoop`` would read all past batches, which is left out for
    an ``InfiniteSampler`` and done for others.
    """
    loader = loop.dataloader
    draws = loader.batch_sampler.sampler
    if not hasattr(loop, 'dataloader_iterator'):
        num_batches = loop.iter - loop.epoch * len(loader)
        draws.num_skipped = num_batches * loader.batch_sampler.batch_size
        return
    # mmengine has begun to draw, before the draws were seeded.
    sampler = draws.sampler
    loader._iterator = None
    if isinstance(sampler, InfiniteSampler):
        draws.sampler = InfiniteSampler(
            sampler.dataset, sampler.shuffle, sampler.seed
        )
        draws.num_skipped = loop.iter * loader.batch_sampler.batch_size
        batches = type(loop.dataloader_iterator)(loader)
        skips = LOOPS_SKIP and not getattr(loop, 'fast_forward_on_resume', 0)
        num_asked = loop.iter if skips else 0
        loop.dataloader_iterator = SkippedBatches(batches, num_asked)
        return
    loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)
    if not LOOPS_SKIP:
        for _ in range(loop.iter):
            next(loop.dataloader_iterator)


class SkippedBatches:
    """Batches of which the first were not read at all.

    Args:
        batches: Those behind them.
        num_skipped: How often ``next`` has nothing to give before.
    """

    def __init__(self, batches: Iterator, num_skipped: int) -> None:
        self.batches = batches
        self.num_skipped = num_skipped

    def __next__(self):
        """Return the next batch, or None for one that was done before."""
        if self.num_skipped:
            self.num_skipped -= 1
            return None
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """Skip batches that were done before, as onedl-mmengine asks for."""
        self.num_skipped -= num_iters
