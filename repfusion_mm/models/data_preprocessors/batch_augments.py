"""Augmentations of whole batches, by kornia."""

from __future__ import annotations

import difflib
import inspect
from typing import Optional, Sequence

import torch
import torch.nn as nn

#: Labels that a crop or a flip of the image alone would tear from it.
DENSE_LABELS = (
    'gt_sem_seg',
    'gt_fields',
    'gt_instances',
    'gt_instance_labels',
)


class BatchAugments:
    """Augment each image of a batch by draws of its own.

    Not an nn.Module, so that no ``.to(device)`` reaches what it holds: kornia
    then draws on the host and never waits to read a device's draws back. Nor
    is it part of any checkpoint.

    Args:
        configs: Names of classes of ``kornia.augmentation`` under ``type``
            and their own arguments, in order.

    Raises:
        ImportError: kornia is not installed.
        ValueError: A name that kornia lacks, one that is no augmentation of
            images alone, or a crop with ``p`` below 1.
    """

    def __init__(self, configs: Sequence[dict]) -> None:
        self.augments = [build_augment(config) for config in configs]
        self.moves_pixels = any(map(is_geometric, self.augments))

    def __call__(
        self, images: torch.Tensor, data_samples: Optional[Sequence] = None
    ) -> torch.Tensor:
        """Augment N x C x H x W images in [0, 255].

        Raises:
            ValueError: Data samples whose labels would have to move along.
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
            'expected an augmentation of images alone in kornia.augmentation, '
            f'got {name!r}; did you mean {", ".join(map(repr, near))}?'
        )
    augment = getattr(library, name)(**config)
    if augment.p_batch != 1:
        raise ValueError(
            f'expected p=1 for {name}, got p={augment.p_batch}: kornia draws '
            'it once for a whole batch, whose images must keep one size'
        )
    return augment


def is_augmentation(candidate: object) -> bool:
    """Whether it is a class that augments images and no labels."""
    from kornia.augmentation import AugmentationBase2D

    return inspect.isclass(candidate) and issubclass(
        candidate, AugmentationBase2D
    )


def is_geometric(augment: nn.Module) -> bool:
    """Whether it moves pixels."""
    from kornia.augmentation import GeometricAugmentationBase2D

    return isinstance(augment, GeometricAugmentationBase2D)


def check_labels(data_samples: Sequence) -> None:
    """Raise a ValueError for labels that belong to places in an image."""
    for sample in data_samples:
        found = [name for name in DENSE_LABELS if name in sample]
        if found:
            raise ValueError(
                'expected data samples without labels of places for augments '
                f'that move pixels, got {", ".join(found)}, which would stay '
                'where they are; crop and flip in the data pipeline'
            )
