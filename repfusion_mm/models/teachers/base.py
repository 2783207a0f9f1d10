"""The interface of a teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.loading.fingerprint import hash_samples


class BaseTeacher(nn.Module, ABC):
    """A frozen network whose features at timestep t are distilled.

    To add a family of teachers, register a subclass in ``MODELS``. Its
    ``__init__`` sets the three attributes below and calls ``freeze()``; its
    ``forward`` reads from the data samples whatever it needs besides images
    and timesteps, such as class labels. The distiller, the policies, the
    decoders and the feature cache use nothing else of a teacher.

    A teacher has no trainable parameter and stays in eval mode. A deep copy of
    it is the teacher itself, so that the EMA copies of a model share it.
    """

    #: (C, H, W) of the map of each layer for one image, in the order in which
    #: ``forward`` returns the maps.
    feature_shapes: Dict[str, Tuple[int, ...]]
    #: T: timesteps are integers in [0, T - 1].
    num_timesteps: int
    #: Side in pixels of the images that the teacher is made for, or height
    #: and width if they differ.
    image_size: Union[int, Tuple[int, int]]
    #: Number of classes if ``forward`` reads the label of each image, else
    #: None.
    label_classes: Optional[int] = None

    @abstractmethod
    def forward(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence] = None,
    ) -> Dict[str, torch.Tensor]:
        """Extract features, without gradients.

        Args:
            images: N x 3 x H x W, RGB, float in [0, 1].
            timesteps: N integers in [0, T - 1].
            data_samples: N data samples of any OpenMMLab library, or None.

        Returns:
            For each layer an N x C x h x w float32 map.
        """

    def fingerprint(self) -> Dict[str, object]:
        """Return everything that features depend on except image and timestep.

        Cached features are valid for teachers of equal fingerprints.

        Returns:
            Named parts that can be written as JSON. ``layers`` holds the
            lists [C, H, W] of ``feature_shapes``.

        Raises:
            ValueError: The features of an image at one timestep are not
                always the same, so that they cannot be cached.
        """
        raise ValueError(
            'expected a teacher whose features can be cached, got '
            f'{type(self).__name__}, which has no fingerprint(); implement '
            'it, or distill without CachedFeaturesDataset'
        )

    def frozen_hashes(self) -> Dict[str, str]:
        """Return hashes of what a resumed run must find unchanged.

        These are the weights, in the dtype that the teacher computes in,
        which the names hold. A subclass adds settings that it reads from
        files.
        """
        return {
            f'{name} in {value.dtype}': hash_samples(part)
            for name, part in self.named_children()
            for value in list(part.state_dict().values())[:1]
        }

    @property
    def network(self) -> nn.Module:
        """The part that was trained to be a teacher, without image encoders.

        With random weights in it, the teacher is an untrained one.
        """
        return self

    def freeze(self) -> None:
        """Turn off gradients and training mode."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> BaseTeacher:
        """Stay in eval mode: ``mode`` is ignored."""
        return super().train(False)

    def __deepcopy__(self, memo: dict) -> BaseTeacher:
        return self
