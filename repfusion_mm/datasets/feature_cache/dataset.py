"""A data set with the features that a frozen teacher gave for its images."""

from __future__ import annotations

from typing import Dict, Optional, Union

import numpy as np
import torch
from torch.utils.data import Dataset

from repfusion_mm.datasets.feature_cache.files import (
    REWRITE,
    FeatureReader,
    crc_of,
)
from repfusion_mm.registry import DATASETS
from repfusion_mm.utils.seeding import seeded

#: What a data sample carries: per layer C x H x W float16, and to what they
#: belong. Neither is a tensor: a batch would need a file descriptor for each.
FEATS_FIELD = 'teacher_feats'
KEY_FIELD = 'teacher_key'
#: How often a view is drawn to see whether it is fixed. An ungoverned flip
#: goes unnoticed once in 128 times.
NUM_DRAWS = 8


@DATASETS.register_module()
class CachedFeaturesDataset(Dataset):
    """Give V fixed views of each image, with the teacher's features.

    ``tools/cache_features.py`` writes the features. A view is what the
    wrapped data set gives when the generators of random, numpy and torch (on
    the CPU) are seeded by (``seed``, image, view); their states are put back
    behind it. Item ``v * N + i`` is view v of image i. Each item is checked:
    its input and its features must have the CRCs that were written.

    Args:
        dataset: Any OpenMMLab data set, or its config, whose pipeline packs
            ``inputs`` and ``data_samples``.
        folder: Where the features lie.
        num_views: V. With one, random operations are drawn once for all
            epochs; without random operations, more are the same again.
        seed: Seed of the views, 0 or more.

    Raises:
        ValueError: ``num_views`` or ``seed`` is out of range. When an item is
            read: the features are damaged, or belong to another image.
        FileNotFoundError: When an item is read: there are no features.
    """

    def __init__(
        self,
        dataset: Union[dict, Dataset],
        folder: str,
        num_views: int = 1,
        seed: int = 0,
    ) -> None:
        if num_views < 1 or seed < 0:
            raise ValueError(
                'expected num_views of 1 or more and seed of 0 or more, got '
                f'{num_views} and {seed}'
            )
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        self.dataset = dataset
        self.folder = str(folder)
        self.num_views = num_views
        self.seed = seed
        self._reader: Optional[FeatureReader] = None

    @property
    def metainfo(self) -> dict:
        """What the wrapped data set says of itself."""
        return self.dataset.metainfo

    @property
    def settings(self) -> Dict[str, int]:
        """What tells the rows of a cache."""
        return dict(
            num_images=len(self.dataset),
            num_views=self.num_views,
            seed=self.seed,
        )

    def full_init(self) -> None:
        """Load the wrapped data set's list, where it was put off."""
        self.dataset.full_init()

    def open(self) -> FeatureReader:
        """Open the features, once in each process.

        Raises:
            FileNotFoundError: There are none.
            ValueError: They are damaged, or of other rows.
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
        """Return the item without features.

        Where its pipeline gives up on an image, mmengine's data set takes
        another one at random: it is the same one each time here.
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
        # A map does not travel to another process: it is opened there.
        return {**self.__dict__, '_reader': None}

    def is_repeatable(self, row: int) -> bool:
        """Return whether the seeds govern all that is random in a row."""
        drawn = [input_of(self.view(row)) for _ in range(NUM_DRAWS)]
        return len({(image.shape, crc_of(image)) for image in drawn}) == 1

    def _stale(self, row: int, item: dict) -> ValueError:
        view, image = divmod(row, len(self.dataset))
        path = item['data_samples'].get('img_path', 'no path')
        message = (
            f'expected row {row} (image {image}, view {view}, {path}) to be '
            f'the image whose features lie in {self.folder!r}, got another: '
        )
        if not self.is_repeatable(row):
            return ValueError(message + UNGOVERNED)
        return ValueError(
            f'{message}the file or the pipeline has changed since; {REWRITE}'
        )


UNGOVERNED = (
    'its pipeline draws from a generator that the seeds of random, numpy and '
    'torch do not govern, so that views are not fixed; take that operation '
    'out, or distil without a cache'
)


def input_of(item: dict) -> np.ndarray:
    """Return the image of an item, as it was packed.

    Raises:
        ValueError: The item has no single image or no data sample.
    """
    inputs = item.get('inputs') if isinstance(item, dict) else None
    if not torch.is_tensor(inputs) or 'data_samples' not in item:
        got = list(item) if isinstance(item, dict) else type(item).__name__
        raise ValueError(
            "expected items with a tensor 'inputs' and 'data_samples', got "
            f"{got}; end the pipeline with your project's PackInputs"
        )
    return np.ascontiguousarray(inputs.numpy())
