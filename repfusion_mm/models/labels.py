"""Class labels of a batch, of which any may be missing."""

from __future__ import annotations

from typing import Optional, Sequence

import torch


def read_labels(
    data_samples: Optional[Sequence], num_images: int, device: torch.device
) -> torch.Tensor:
    """Return the class label of each image.

    Args:
        data_samples: N samples; those without ``gt_label`` count as
            unlabelled, and None means that all are.
        num_images: N.
        device: Where the labels are wanted.

    Returns:
        N integers, -1 without a label.

    Raises:
        ValueError: Several labels, a soft label or a negative one.
    """
    unlabelled = torch.tensor([-1], device=device)
    labels = [unlabelled] * num_images
    for i, sample in enumerate(data_samples or ()):
        if 'gt_score' in sample:
            raise ValueError(
                'expected hard labels, got gt_score; remove batch_augments '
                'and to_onehot from the data preprocessor'
            )
        if 'gt_label' not in sample:
            continue
        labels[i] = torch.as_tensor(sample.gt_label).flatten().to(device)
        if len(labels[i]) != 1:
            raise ValueError(
                'expected one class label for an image, got '
                f'{labels[i].tolist()}'
            )
    return torch.cat(labels)
