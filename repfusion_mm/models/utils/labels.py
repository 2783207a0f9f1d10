"""Read the class labels of a batch, any of which may be missing."""

from __future__ import annotations

from typing import List, Optional, Sequence

import torch


def read_labels(
    data_samples: Optional[Sequence], num_images: int
) -> torch.Tensor:
    """Return N integers: the label of each image, -1 for unlabeled ones.

    Samples without ``gt_label`` are unlabeled; None means that all are.
    """
    labels: List[Optional[torch.Tensor]] = [None] * num_images
    for i, sample in enumerate(data_samples or ()):
        if 'gt_score' in sample:
            raise ValueError(
                'expected hard labels, got gt_score; remove batch_augments '
                'and to_onehot from the data preprocessor'
            )
        if 'gt_label' not in sample:
            continue
        label = torch.as_tensor(sample.gt_label).flatten()
        if len(label) != 1:
            raise ValueError(
                f'expected one class label for an image, got {label.tolist()}'
            )
        labels[i] = label
    return torch.cat(fill_in(labels, torch.tensor([-1])))


def fill_in(
    labels: Sequence[Optional[torch.Tensor]], default: torch.Tensor
) -> List[torch.Tensor]:
    """Replace each None by ``default``, on the device of the other labels."""
    device = next((i.device for i in labels if i is not None), 'cpu')
    default = default.to(device, non_blocking=True)
    return [default if label is None else label for label in labels]
