"""Class labels of a batch, of which any may be missing."""

from __future__ import annotations

from typing import List, Optional, Sequence

import torch


def read_labels(
    data_samples: Optional[Sequence], num_images: int
) -> torch.Tensor:
    """Return the class label of each image.

    Args:
        data_samples: N samples; those without ``gt_label`` count as
            unlabelled, and None means that all are.
        num_images: N.

    Returns:
        N integers, -1 without a label, on the device of the labels.

    Raises:
        ValueError: Several labels, a soft label or a negative one.
    """
    labels = [None] * num_images
    for i, sample in enumerate(data_samples or ()):
        if 'gt_score' in sample:
            raise ValueError(
                'expected hard labels, got gt_score; remove batch_augments '
                'and to_onehot from the data preprocessor'
            )
        if 'gt_label' not in sample:
            continue
        labels[i] = torch.as_tensor(sample.gt_label).flatten()
        if len(labels[i]) != 1:
            raise ValueError(
                'expected one class label for an image, got '
                f'{labels[i].tolist()}'
            )
    return torch.cat(fill_in(labels, torch.tensor([-1])))


def fill_in(
    labels: Sequence[Optional[torch.Tensor]], default: torch.Tensor
) -> List[torch.Tensor]:
    """Put ``default`` in place of each None, on the device of the others."""
    device = next((i.device for i in labels if i is not None), 'cpu')
    default = default.to(device)
    return [default if label is None else label for label in labels]
