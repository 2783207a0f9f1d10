"""Sample from several datasets in a given proportion."""

from __future__ import annotations

import math
from typing import Iterator, Optional, Sequence

import numpy as np
from mmengine.dataset import ConcatDataset
from mmengine.dist import get_dist_info, sync_random_seed

from repfusion_mm.registry import DATA_SAMPLERS
from repfusion_mm.utils.arguments import check_integer


@DATA_SAMPLERS.register_module()
class ProportionalSampler:
    """Mix the parts of a ``ConcatDataset`` in a given proportion.

    With a few labeled and many unlabeled images, proportions of (1, 1) make
    half of each batch labeled, if the batch size is a multiple of
    ``sum(proportions)``. Within an epoch, no rank repeats an image of a part
    before all of the part were sampled.

    Args:
        dataset: A ``ConcatDataset`` of P parts.
        proportions: P positive integers. Of ``sum(proportions)`` consecutive
            samples, ``proportions[p]`` are from part p.
        num_samples: Number of samples in an epoch over all ranks, rounded up
            to a multiple of their number; by default the length of
            ``dataset``.
        seed: Seed of the shuffling; by default one shared by all ranks.

    Raises:
        ValueError: The number of proportions differs from that of the parts,
            a part is empty, or a number is outside its range.
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        proportions: Sequence[int],
        num_samples: Optional[int] = None,
        seed: Optional[int] = None,
    ) -> None:
        parts = getattr(dataset, 'datasets', [dataset])
        if len(parts) != len(proportions):
            raise ValueError(
                f'expected {len(parts)} positive proportions, one for each '
                f'part of the ConcatDataset, got {tuple(proportions)}; '
                'correct train_dataloader.sampler.proportions'
            )
        self.sizes = [len(part) for part in parts]
        if min(self.sizes) == 0:
            raise ValueError(
                f'expected images in every part, got parts of {self.sizes} '
                'images; correct the parts of train_dataloader.dataset'
            )
        place = 'train_dataloader.sampler'
        for proportion in proportions:
            check_integer(f'each of {place}.proportions', proportion)
        if num_samples is not None:
            check_integer(f'{place}.num_samples', num_samples)
        if seed is not None:
            check_integer(f'{place}.seed', seed, 0)
        self.rank, self.world_size = get_dist_info()
        self.pattern = np.repeat(np.arange(len(parts)), proportions)
        # Not sum(self.sizes): for num_batch_per_epoch, mmengine wraps the
        # dataset in one with a shorter length.
        total = len(dataset) if num_samples is None else num_samples
        self.num_samples = math.ceil(total / self.world_size)
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices of the current epoch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        parts = np.resize(self.pattern, self.num_samples)
        indices = np.empty(self.num_samples, dtype=np.int64)
        offset = 0
        for part, size in enumerate(self.sizes):
            places = np.flatnonzero(parts == part)
            draws = len(places) * self.world_size
            rounds = [
                rng.permutation(size) for _ in range(math.ceil(draws / size))
            ]
            drawn = np.concatenate(rounds or [np.empty(0, np.int64)])
            mine = drawn[self.rank : draws : self.world_size]
            indices[places] = offset + mine
            offset += size
        return iter(indices.tolist())

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the shuffling."""
        self.epoch = epoch
