"""Augment whole batches with kornia."""

from __future__ import annotations

import difflib
import inspect
from typing import Optional, Sequence

import torch
import torch.nn as nn

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
        self.augments = [build_augment(config) for config in configs]
        self.moves_pixels = any(map(is_geometric, self.augments))

    def __call__(
        self, images: torch.Tensor, data_samples: Optional[Sequence] = None
    ) -> torch.Tensor:
        """Augment images.

        Args:
            images: N x C x H x W, in [0, 255].
            data_samples: N data samples, or None.

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


def build_augment(config: dict) -> nn.Module:
    """Build one augmentation; see ``BatchAugments``."""
    try:
        import kornia.augmentation as library
    except ImportError as error:
        raise ImportError(
            "expected the package 'kornia' for data_preprocessor.augments; "
            'pip install kornia'
        ) from error
    config = dict(config)
    name = config.pop('type')
    if not is_augmentation(getattr(library, name, None)):
        names = [k for k, v in vars(library).items() if is_augmentation(v)]
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


def is_augmentation(candidate: object) -> bool:
    """Return whether ``candidate`` is a class of image augmentations."""
    from kornia.augmentation import AugmentationBase2D

    return inspect.isclass(candidate) and issubclass(
        candidate, AugmentationBase2D
    )


def is_geometric(augment: nn.Module) -> bool:
    """Return whether ``augment`` moves pixels."""
    from kornia.augmentation import GeometricAugmentationBase2D

    return isinstance(augment, GeometricAugmentationBase2D)


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
