"""A dataset with cached features of a frozen teacher."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch.utils.data import Dataset

from repfusion_mm.datasets.feature_cache.files import (
    REWRITE,
    FeatureReader,
    crc_of,
)
from repfusion_mm.datasets.wrappers import get_wrapped
from repfusion_mm.registry import DATASETS
from repfusion_mm.utils.arguments import check_integer
from repfusion_mm.utils.seeding import seeded

#: Fields of a data sample: the features, for each layer a C x H x W float16
#: array, and the key of the teacher that they belong to. Arrays, because a
#: worker process would need a file descriptor for each tensor.
FEATS_FIELD = 'teacher_feats'
KEY_FIELD = 'teacher_key'
#: How often a view is drawn to check that it is repeatable. A random flip
#: that no seed controls passes the check once in 128 times.
NUM_DRAWS = 8


@DATASETS.register_module()
class CachedFeaturesDataset(Dataset):
    """Add the teacher's cached features to V fixed views of each image.

    ``tools/cache_features.py`` writes the features. A view is the item of the
    wrapped dataset when the generators of ``random``, ``numpy`` and ``torch``
    (on the CPU) are seeded by (``seed``, image, view); their states are
    restored afterwards. Item ``v * N + i`` is view v of image i. The CRC-32 of
    its input and of its features are compared with those in the cache.

    Args:
        dataset: Any OpenMMLab dataset, or its config, whose pipeline packs
            ``inputs`` and ``data_samples``.
        folder: Folder of the cache.
        num_views: V. With one view, random operations are drawn once for all
            epochs. Without random operations, all views are the same.
        seed: Seed of the views, 0 or more.

    Raises:
        ValueError: ``num_views`` or ``seed`` is out of range. When an item is
            read: the features are damaged, or belong to another image.
        FileNotFoundError: When an item is read: there is no cache.
    """

    #: What is cached.
    kind = 'features'

    def __init__(
        self,
        dataset: Any,
        folder: str,
        num_views: int = 1,
        seed: int = 0,
    ) -> None:
        name = type(self).__name__
        check_integer(f'{name}.num_views', num_views)
        check_integer(f'{name}.seed', seed, 0)
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        self.dataset = dataset
        self.folder = str(folder)
        self.num_views = num_views
        self.seed = seed
        self._reader: Optional[FeatureReader] = None

    @property
    def metainfo(self) -> dict:
        """The ``metainfo`` of the wrapped dataset."""
        return self.dataset.metainfo

    @property
    def settings(self) -> Dict[str, int]:
        """The settings that determine the rows of a cache."""
        count = len(self.dataset)
        return dict(num_images=count, num_views=self.num_views, seed=self.seed)

    def full_init(self) -> None:
        """Load the list of images if the wrapped dataset is lazy."""
        self.dataset.full_init()

    def get_data_info(self, row: int) -> dict:
        """Return the information of an item's image, such as its label."""
        return self.dataset.get_data_info(row % len(self.dataset))

    def open(self) -> FeatureReader:
        """Open the cache, once in each process.

        Raises:
            FileNotFoundError: There is no cache.
            ValueError: It is damaged, or has other settings.
        """
        if self._reader is None:
            reader = FeatureReader(self.folder)
            theirs = {name: reader.meta[name] for name in self.settings}
            if theirs != self.settings:
                raise ValueError(
                    f'expected a feature cache of {self.settings} at '
                    f'{self.folder!r}, got one of {theirs}; {REWRITE}'
                )
            self._reader = reader
        return self._reader

    def view(self, row: int) -> dict:
        """Return an item without features.

        If the pipeline returns None for an image, mmengine's dataset draws
        another one at random. Here it is always the same one.
        """
        if not 0 <= row < len(self):
            raise IndexError(f'expected a row in [0, {len(self)}), got {row}')
        view, image = divmod(row, len(self.dataset))
        with seeded(self.seed, image, view):
            return self.dataset[image]

    def __getitem__(self, row: int) -> dict:
        reader = self.open()
        item = self.view(row)
        image = input_of(item)
        if (
            image.shape != tuple(reader.meta['input_shape'])
            or crc_of(image) != reader.input_crcs[row]
        ):
            raise self._stale(row, item)
        sample = item['data_samples']
        sample.set_field(reader.read(row), FEATS_FIELD)
        sample.set_field(reader.key_text, KEY_FIELD)
        return item

    def __len__(self) -> int:
        return len(self.dataset) * self.num_views

    def __getstate__(self) -> dict:
        # Memory maps cannot be pickled: each process opens its own.
        return {**self.__dict__, '_reader': None}

    def is_repeatable(self, row: int) -> bool:
        """Return whether repeated draws of a row have the same input."""
        drawn = [input_of(self.view(row)) for _ in range(NUM_DRAWS)]
        return len({(image.shape, crc_of(image)) for image in drawn}) == 1

    def _stale(self, row: int, item: dict) -> ValueError:
        view, image = divmod(row, len(self.dataset))
        path = item['data_samples'].get('img_path', 'no path')
        reason = f'the file or the pipeline has changed since; {REWRITE}'
        if not self.is_repeatable(row):
            reason = NOT_REPEATABLE
        return ValueError(
            f'expected row {row} (image {image}, view {view}, {path}) to be '
            f'the image of the features in {self.folder!r}, got another: '
            + reason
        )


@DATASETS.register_module()
class CachedLatentsDataset(CachedFeaturesDataset):
    """Add the cached latents of an image encoder to V fixed views of images.

    Unlike cached features they depend on no timestep, layer or noise: with
    them a latent teacher works with every policy, without its image encoder.
    ``tools/cache_features.py --latents`` writes them. See
    :class:`CachedFeaturesDataset` for the views and the arguments.
    """

    kind = 'latents'


#: Why a view is not repeatable, for error messages.
NOT_REPEATABLE = (
    'its pipeline draws from a generator that the seeds of random, numpy and '
    'torch do not control, so that views are not fixed; remove that '
    'operation, or distill without a cache'
)


def split_cached(
    dataset: Dataset,
) -> Tuple[List[CachedFeaturesDataset], List[Dataset]]:
    """Return the parts of a dataset with and without cached features."""
    if isinstance(dataset, CachedFeaturesDataset):
        return [dataset], []
    parts = get_wrapped(dataset)
    if parts is None:
        return [], [dataset]
    cached: List[CachedFeaturesDataset] = []
    live: List[Dataset] = []
    for part in parts:
        some, others = split_cached(part)
        cached += some
        live += others
    return cached, live


def input_of(item: dict) -> np.ndarray:
    """Return the packed image of an item, which must have a data sample."""
    inputs = item.get('inputs') if isinstance(item, dict) else None
    if not torch.is_tensor(inputs) or 'data_samples' not in item:
        got = list(item) if isinstance(item, dict) else type(item).__name__
        raise ValueError(
            "expected items with a tensor 'inputs' and 'data_samples', got "
            f"{got}; end the pipeline with your project's PackInputs"
        )
    return np.ascontiguousarray(inputs.numpy())
