"""Augment whole batches with kornia."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Optional, Sequence

import torch

#: Labels that would no longer match an image that is cropped or flipped.
DENSE_LABELS = (
    'gt_sem_seg',
    'gt_fields',
    'gt_instances',
    'gt_instance_labels',
)


class BatchAugments:
    """Augment each image of a batch with its own random parameters.

    This is not an nn.Module, so that ``.to(device)`` does not move kornia's
    modules: kornia then samples its parameters on the host and does not
    synchronize with the device. The augmentations are in no checkpoint.

    Args:
        configs: Configs of the augmentations, in order. ``type`` is the name
            of a class in ``kornia.augmentation``.

    Raises:
        ImportError: kornia is not installed.
        ValueError: ``type`` is not an image augmentation of kornia, or a crop
            has ``p`` below 1.
    """

    def __init__(self, configs: Sequence[dict]) -> None:
        try:
            import kornia.augmentation as library
        except ImportError as error:
            raise ImportError(
                "expected the package 'kornia' for "
                'data_preprocessor.augments; pip install kornia'
            ) from error
        self.augments = [build_augment(library, config) for config in configs]
        # Some that do are not of GeometricAugmentationBase2D.
        self.moves_pixels = not all(
            isinstance(augment, library.IntensityAugmentationBase2D)
            for augment in self.augments
        )

    def __call__(
        self, images: torch.Tensor, data_samples: Optional[Sequence] = None
    ) -> torch.Tensor:
        """Augment N x C x H x W images in [0, 255].

        Raises:
            ValueError: An augmentation moves pixels, and the data samples have
                dense labels, which would not be moved.
        """
        if self.moves_pixels:
            check_labels(data_samples or ())
        images = images / 255
        for augment in self.augments:
            images = augment(images)
        return images * 255


def build_augment(library: Any, config: dict) -> Any:
    """Build one augmentation of ``kornia.augmentation``."""
    config = dict(config)
    name = config.pop('type')
    # A class, or its import path, in pure Python configs.
    name = getattr(name, '__name__', name).split('.')[-1]
    names = [
        key
        for key, value in vars(library).items()
        if inspect.isclass(value)
        and issubclass(value, library.AugmentationBase2D)
    ]
    if name not in names:
        near = difflib.get_close_matches(name, names) or sorted(names)
        raise ValueError(
            'expected an image augmentation of kornia.augmentation, '
            f'got {name!r}; did you mean {", ".join(map(repr, near))}?'
        )
    augment = getattr(library, name)(**config)
    if augment.p_batch != 1:
        raise ValueError(
            f'expected p=1 for {name}, got p={augment.p_batch}: kornia '
            'applies it to all images of a batch or to none, and their size '
            'must not change between batches'
        )
    return augment


def check_labels(data_samples: Sequence) -> None:
    """Raise a ValueError if a data sample has dense labels."""
    for sample in data_samples:
        found = [name for name in DENSE_LABELS if name in sample]
        if found:
            raise ValueError(
                'expected data samples without dense labels for augments that '
                f'move pixels, got {", ".join(found)}, which would not be '
                'moved; crop and flip in the data pipeline'
            )
