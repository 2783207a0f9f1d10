"""Map the student's maps to the teacher's channels, level by level or jointly.

A level is a map of the student and the teacher's layer that it is compared
with.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import List, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.model import BaseModule


class MultiLevelConnector(BaseModule):
    """Map the student's maps of all levels jointly.

    To add one, register a subclass in ``MODELS``; the distiller builds it
    once, for all levels.

    Args:
        in_shapes: (C, H, W) of the student's maps; the distiller sets it.
        out_shapes: (C, H, W) of the teacher's layers; the distiller sets it.
    """

    def __init__(
        self,
        in_shapes: Sequence[Tuple[int, ...]],
        out_shapes: Sequence[Tuple[int, ...]],
    ) -> None:
        super().__init__()
        self.in_shapes = list(in_shapes)
        self.out_shapes = list(out_shapes)

    @abstractmethod
    def forward(self, feats: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """Return a map of the teacher's channels for each of the student's.

        Args:
            feats: N x C_s x h x w of each level.
        """

    def check_batch(self, num_images: int) -> None:
        """Refuse batches that the connector cannot be trained with.

        Args:
            num_images: Number of images in a batch of one process.

        Raises:
            ValueError: There are too few.
        """


class SeparateConnectors(nn.ModuleList):
    """One connector for each level."""

    def forward(self, feats: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """Map each level by its connector."""
        return [connector(feat) for connector, feat in zip(self, feats)]
