"""What the trainings of generative models share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Dict, Optional

import torch
from mmengine.model import BaseModel

from repfusion_mm.models.utils.image_range import (
    resolve_channel_order,
    to_unit_range,
)
from repfusion_mm.models.utils.preprocessor_hooks import register_hooks


class GenerativeModel(BaseModel, ABC):
    """Train a diffusers model on RGB images; labels are ignored.

    Args:
        channel_order: ``'rgb'`` or ``'bgr'``, the channel order of the inputs.
            Required if the data preprocessor does not convert channels.
        data_preprocessor: Config of the data preprocessor. Its mean and std
            are used to convert its outputs to images in [0, 1].
        init_cfg: Initialization config.
    """

    def __init__(
        self,
        channel_order: Optional[str] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        register_hooks(self.data_preprocessor)
        self.channel_order = resolve_channel_order(
            channel_order, data_preprocessor
        )

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Optional[list] = None,
        mode: str = 'tensor',
    ):
        """Return the losses of N x 3 x H x W inputs; labels are ignored.

        Raises:
            ValueError: ``mode`` is not ``'loss'``.
        """
        if mode != 'loss':
            raise ValueError(
                f"expected mode 'loss', got {mode!r}; to use the model, load "
                'the exported folder with diffusers'
            )
        return self.loss(self.to_images(inputs))

    def to_images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return N x 3 x H x W inputs as RGB images in [0, 1]."""
        return to_unit_range(
            inputs, self.data_preprocessor, self.channel_order
        )

    @abstractmethod
    def loss(self, images: torch.Tensor) -> Dict[str, torch.Tensor]:
        """Return the losses of N x 3 x H x W images in [0, 1]."""

    @abstractmethod
    def save_pretrained(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the model as diffusers does, and cast it to ``dtype``."""
