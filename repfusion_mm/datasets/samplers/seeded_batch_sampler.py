"""Give each batch a seed that depends on its position in the run only."""

from __future__ import annotations

from typing import Any, Iterator, List, NamedTuple, Tuple

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import BatchSampler

from repfusion_mm.registry import DATA_SAMPLERS


class SeededBatch(NamedTuple):
    """The indices and the seed of a batch, for ``SeededConcatDataset``."""

    indices: List[int]
    #: Seed of the run, rank, epoch and position of the batch in the epoch.
    seed: Tuple[int, ...]


@DATA_SAMPLERS.register_module()
class SeededBatchSampler(BatchSampler):
    """Group the indices of a sampler into batches that carry a seed.

    The seed is (seed of the run, rank, epoch, position of the first index in
    the epoch), so that augmentations depend neither on the number of workers
    nor on what was drawn before, and differ between epochs. In the config::

        train_dataloader = dict(
            batch_size=32,
            batch_sampler=dict(
                type='repfusion_mm.SeededBatchSampler', drop_last=True),
            dataset=dict(
                type='repfusion_mm.SeededConcatDataset', datasets=[...]))

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
        #: Number of batches that the next pass over the sampler leaves out.
        self.num_skipped = 0

    def __iter__(self) -> Iterator[SeededBatch]:  # type: ignore[override]
        """Yield the batches of an epoch, once without the skipped ones."""
        skipped, self.num_skipped = self.num_skipped, 0
        epoch = getattr(self.sampler, 'epoch', 0)
        for number, indices in enumerate(super().__iter__()):
            if number >= skipped:
                position = number * self.batch_size
                seed = (self.seed, get_rank(), epoch, position)
                yield SeededBatch(indices, seed)
