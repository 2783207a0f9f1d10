"""What every decoder g is: how well can a task be solved from z_t?"""

from __future__ import annotations

from abc import abstractmethod
from typing import Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule

#: Which decoder reads which label of a data sample.
LABEL_FIELDS = {
    'gt_label': 'ClsDecoder',
    'gt_score': 'ClsDecoder',
    'gt_sem_seg': 'SegDecoder',
    'gt_fields': 'KeypointDecoder',
    'gt_instance_labels': 'KeypointDecoder',
}


def check_count(name: str, value: object) -> None:
    """Raise a ValueError if an argument of a decoder is no positive integer.

    Args:
        name: The argument, as ``num_classes``.
        value: What it was given.
    """
    if type(value) is not int or value < 1:
        raise ValueError(
            f'expected decoder.{name} to be a positive integer, got '
            f'{value!r}; correct model.decoder.{name}'
        )


class TaskDecoder(BaseModule):
    """Solve a task from the teacher's map; the reward is minus the loss."""

    #: What holds the label in a data set's infos.
    info_key: str

    @abstractmethod
    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each image, and which have a label.

        Args:
            feat: N x C x H x W teacher map.
            data_samples: N samples; None means that all are unlabelled.

        Returns:
            N losses, zero without a label, and N booleans.

        Raises:
            ValueError: Labels that do not fit this decoder.
        """

    def check_labels(self, labels: list) -> None:
        """Check all labels of a data set before training.

        Args:
            labels: What its infos hold under ``info_key``.

        Raises:
            ValueError: They do not fit this decoder.
        """

    def samples(
        self, data_samples: Optional[Sequence], num_images: int
    ) -> Sequence:
        """Return N samples, none of which holds another task's label alone.

        Raises:
            ValueError: One does.
        """
        samples = data_samples or [{}] * num_images
        name = type(self).__name__
        for sample in samples:
            fields = {f: d for f, d in LABEL_FIELDS.items() if f in sample}
            if fields and name not in fields.values():
                own = [f for f, d in LABEL_FIELDS.items() if d == name]
                raise ValueError(
                    f'expected data samples with {" or ".join(own)} for '
                    f'{name}, got {type(sample).__name__} with '
                    f'{", ".join(fields)}, which {fields.popitem()[1]} reads; '
                    'change model.decoder or the data pipeline'
                )
        return samples
