"""Reward out of sample: tried by evidence.py, and no part of the package."""

from __future__ import annotations

import zlib
from typing import Sequence, Tuple

import torch
import torch.nn as nn

from repfusion_mm.models import ClsDecoder
from repfusion_mm.models.decoders import TaskDecoder
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class CrossFitDecoder(TaskDecoder):
    """Score every image by a decoder that was not fitted on it.

    Images are dealt to folds by their paths. There is one ``ClsDecoder`` for
    each fold; it is fitted on the images of the others, and its loss on those
    of its own fold is what rewards the policy.

    Args:
        num_folds: Number of decoders, at least two.
        arguments: Of the decoders.
    """

    info_key = ClsDecoder.info_key

    def __init__(self, num_folds: int = 5, **arguments) -> None:
        super().__init__()
        decoders = [ClsDecoder(**arguments) for _ in range(num_folds)]
        self.decoders = nn.ModuleList(decoders)

    def loss(
        self, feat: torch.Tensor, data_samples: Sequence
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each image, and which have a label.

        Its value is the loss out of sample; its gradient is that of the mean
        loss of the decoders that are fitted on the image.
        """
        found = [d.loss(feat, data_samples) for d in self.decoders]
        losses = torch.stack([losses for losses, _ in found])
        folds = torch.tensor(
            [self.fold(sample) for sample in data_samples], device=feat.device
        )
        held_out = losses.gather(0, folds[None])[0]
        fitted = (losses.sum(0) - held_out) / (len(self.decoders) - 1)
        return held_out.detach() + fitted - fitted.detach(), found[0][1]

    def fold(self, sample) -> int:
        """Return the fold of an image."""
        return zlib.crc32(sample.img_path.encode()) % len(self.decoders)
