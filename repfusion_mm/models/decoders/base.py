"""The interface of a decoder g, which solves a task from features z_t."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData


class TaskDecoder(BaseModule):
    """Solve a task from features of the teacher, as a reward for a policy.

    Labels that do not count (see :mod:`repfusion_mm.models.utils.labels`)
    change no loss. An image without a label that counts is unlabeled.
    """

    #: Key of the label in the infos of a dataset.
    info_key: str = ''
    #: Fields of a data sample that contain the label.
    label_fields: Tuple[str, ...] = ()
    #: Whether values of labels on another device than the CPU were checked.
    _checked = False

    @abstractmethod
    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each image, and the mask of labeled images.

        Args:
            feat: N x C x H x W features of the teacher.
            data_samples: N samples; None means that all are unlabeled.

        Returns:
            N losses, zero for unlabeled images, and N booleans.

        Raises:
            ValueError: The labels are invalid for this decoder.
        """

    def read(self, samples: Sequence) -> Tuple[torch.Tensor, ...]:
        """Return the labels of N samples, and where they count.

        Returns:
            Tensors of N rows: the targets of the decoder's loss, and last the
            weights or booleans that are zero where a label does not count.

        Raises:
            ValueError: The labels are invalid for this decoder.
        """
        return ()

    def has_field(self, sample: Any) -> bool:
        """Return whether a data sample has a field for this decoder."""
        return any(holds(sample, field) for field in self.label_fields)

    def has_label(self, sample: Any) -> bool:
        """Return whether a data sample has a label that counts."""
        found = self.read([sample])
        return bool(found[-1].any()) if found else self.has_field(sample)

    def find_label(self, info: dict) -> Any:
        """Return the label in an info of a dataset; None if it is unlabeled.

        Args:
            info: What a dataset knows of an image before it is loaded.
        """
        return info.get(self.info_key)

    def check_labels(self, labels: list, paths: Sequence = ()) -> None:
        """Check all labels of a dataset before training.

        Args:
            labels: The results of ``find_label`` for the labeled images.
            paths: The paths of these images, for error messages.

        Raises:
            ValueError: A label is invalid for this decoder.
        """

    def must_check(self, labels: torch.Tensor) -> bool:
        """Return whether to check the values of a batch of labels.

        On the CPU all are checked. On other devices a check synchronizes, so
        that only the first batch is checked.
        """
        if labels.device.type == 'cpu':
            return True
        first, self._checked = not self._checked, True
        return first and labels.device.type != 'meta'

    def samples(
        self, data_samples: Optional[Sequence], num_images: int
    ) -> Sequence:
        """Return N samples after checking which labels they have.

        Raises:
            ValueError: A sample has labels, but none for this decoder.
        """
        samples = data_samples or [{}] * num_images
        name, own = type(self).__name__, self.label_fields
        readers = {
            field: cls.__name__
            for cls in TaskDecoder.__subclasses__()
            for field in cls.label_fields
        }
        for sample in samples:
            found = [field for field in readers if holds(sample, field)]
            if found and own and not any(field in own for field in found):
                raise ValueError(
                    f'expected data samples with {" or ".join(own)} for '
                    f'{name}, got {type(sample).__name__} with '
                    f'{", ".join(found)}, for {readers[found[-1]]}; '
                    'change model.decoder or the data pipeline'
                )
        return samples


def holds(sample: Any, field: str) -> bool:
    """Return whether a data sample has a field, other than no instances."""
    if field not in sample:
        return False
    value = sample.get(field)
    return len(value) > 0 if isinstance(value, InstanceData) else True
