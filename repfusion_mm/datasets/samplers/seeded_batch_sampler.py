"""Give each batch a seed that depends on its position in the run only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Tuple

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import BatchSampler

from repfusion_mm.registry import DATA_SAMPLERS
from repfusion_mm.utils.seeding import (
    generator_states,
    seed_generators,
    seeded,
)


@dataclass(frozen=True)
class SeededBatch:
    """The indices and the seed of a batch.

    torch's DataLoader iterates a batch in the process that reads it, which
    seeds the pipeline of any dataset. ``SeededConcatDataset`` also restores
    the states of the generators afterwards.
    """

    indices: List[int]
    #: Seed of the run, rank, epoch and position of the batch in the epoch.
    seed: Tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Seed the generators of this process, and yield the indices."""
        seed_generators(*self.seed)
        yield from self.indices


@DATA_SAMPLERS.register_module()
class SeededBatchSampler(BatchSampler):
    """Group the indices of a sampler into batches that carry a seed.

    The seed is (seed of the run, rank, epoch, position of the first index in
    the epoch), so that augmentations depend neither on the number of workers
    nor on what was drawn before, and differ between epochs. A sampler that
    draws from the global generators draws the same in a resumed run. In the
    config::

        train_dataloader = dict(
            batch_size=32,
            batch_sampler=dict(
                type='repfusion_mm.SeededBatchSampler', drop_last=True),
            dataset=...)

    ``drop_last`` of the dataloader itself must be left out: torch accepts it
    or a batch sampler.

    Args:
        sampler: Any sampler. Its ``epoch`` counts, if it has one.
        batch_size: Number of indices in a batch.
        drop_last: Whether to drop a last batch that is incomplete.
        seed: Seed of the run; ``ExactResumeHook`` sets ``runner.seed``.

    Raises:
        ValueError: The sampler has fewer indices than a batch takes.
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        if len(self) == 0 and not isinstance(sampler, InfiniteSampler):
            raise ValueError(
                f'expected at least one batch of {batch_size} images, got '
                f'{len(sampler)} images; lower train_dataloader.batch_size'
            )
        self.seed = seed
        #: Number of the pass over the sampler; None: that of the sampler.
        self.epoch: Optional[int] = None
        #: Number of batches that the next pass over the sampler leaves out.
        self.num_skipped = 0

    def __iter__(self) -> Iterator[SeededBatch]:  # type: ignore[override]
        """Yield the batches of an epoch, once without the skipped ones."""
        skipped, self.num_skipped = self.num_skipped, 0
        epoch = self.epoch
        if epoch is None:
            epoch = getattr(self.sampler, 'epoch', 0)
        for number, indices in enumerate(self._draw(epoch)):
            if number >= skipped:
                position = number * self.batch_size
                seed = (self.seed, get_rank(), epoch, position)
                yield SeededBatch(indices, seed)

    def _draw(self, epoch: int) -> Iterator[List[int]]:
        """Yield the batches of an epoch, drawn with seeded generators.

        Most samplers draw from the global generators for the first batch or
        not at all; the others are seeded at every batch.
        """
        batches = self._batches()
        number, draws = 0, True
        while draws:
            with seeded(self.seed, get_rank(), epoch, number, 1):
                before = generator_states()
                try:
                    indices = next(batches)
                except StopIteration:
                    return
                draws = number == 0 or generator_states() != before
            yield indices
            number += 1
        yield from batches

    def _batches(self) -> Iterator[List[int]]:
        return super().__iter__()


class SeededBatches(SeededBatchSampler):
    """Give the batches of any batch sampler a seed.

    ``ExactResumeHook`` wraps the batch sampler of a dataloader that has no
    ``SeededBatchSampler``.

    Args:
        batches: A batch sampler.
        batch_size: Number of images in its batches.
    """

    def __init__(self, batches: Any, batch_size: int) -> None:
        self.batches = batches
        # Batch samplers of one's own may lack the attributes of torch's.
        self.sampler = getattr(batches, 'sampler', batches)
        self.batch_size = batch_size
        self.drop_last = getattr(batches, 'drop_last', False)
        self.seed = 0
        self.epoch = None
        self.num_skipped = 0

    def __len__(self) -> int:
        return len(self.batches)

    def _batches(self) -> Iterator[List[int]]:
        return iter(self.batches)
