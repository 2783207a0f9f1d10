"""Let mmpretrain's data preprocessor pass batches with unlabeled images."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import torch

from repfusion_mm.models.utils.labels import (
    UNLABELED,
    count_classes,
    read_classes,
)

#: Key of the data samples that the data preprocessor does not get.
KEPT = 'partly_labeled_samples'


def hide_labels(
    module: torch.nn.Module, args: tuple, kwargs: dict
) -> Optional[Tuple[tuple, dict]]:
    """Hide the data samples of a partly labeled batch; a forward pre-hook.

    mmpretrain's ``ClsDataPreprocessor`` concatenates the labels of all images
    if the first one has a label. Decoders read labels from the samples.

    Raises:
        ValueError: The data preprocessor mixes images (mixup, CutMix), and
            some have no label to mix.
    """
    data = args[0] if args else None
    # No other data preprocessor of OpenMMLab concatenates labels.
    if not isinstance(data, dict) or not hasattr(module, 'to_onehot'):
        return None
    samples = data.get('data_samples')
    if not samples:
        return None
    found = {(is_labeled(s), 'gt_score' in s) for s in samples}
    training = kwargs.get('training', args[1:2] == (True,))
    if training and module.batch_augments and (False, False) in found:
        raise ValueError(
            'expected a label for each image, which batch_augments of '
            'model.data_preprocessor mixes with the image, got unlabeled '
            'images; set batch_augments=None'
        )
    # A class of -1 cannot be one-hot.
    negative = module.to_onehot and any(
        'gt_label' in s and not is_labeled(s) for s in samples
    )
    if len(found) == 1 and not negative:
        return None
    hidden = {**data, 'data_samples': None, KEPT: samples}
    return (hidden, *args[1:]), kwargs


def is_labeled(sample: Any) -> bool:
    """Return whether each class in a sample's ``gt_label`` counts."""
    classes = read_classes(sample)
    return classes is not None and bool(
        count_classes(classes, UNLABELED).all()
    )


def restore_labels(
    module: torch.nn.Module, args: tuple, output: Any
) -> Optional[dict]:
    """Return the data samples that were hidden; a forward hook."""
    if args and isinstance(args[0], dict) and KEPT in args[0]:
        return {**output, 'data_samples': args[0][KEPT]}
    return None
