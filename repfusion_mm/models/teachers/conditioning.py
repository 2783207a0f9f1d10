"""What a class-conditional denoiser is told about an image."""

from __future__ import annotations

from typing import Dict, Optional

import torch
import torch.nn as nn

CLASS_SIGNALS = ('none', 'random', 'label')


class ClassSignal:
    """Give the denoiser no class, a random one, or the image's label.

    Args:
        kind: ``'none'``, ``'random'`` or ``'label'``.
        denoiser: A diffusers denoiser, whose class embedding is taken away
            for ``'none'``.

    Raises:
        ValueError: A class is to be told to a denoiser without classes.
    """

    def __init__(self, kind: str, denoiser: nn.Module) -> None:
        self.kind = kind
        self.num_classes = denoiser.config.get('num_class_embeds') or 0
        if kind == 'none' and self.num_classes:
            denoiser.class_embedding = None
        elif kind != 'none' and not self.num_classes:
            raise ValueError(
                'expected a class-conditional denoiser for '
                f'teacher.class_signal={kind!r}, got one without classes; '
                'leave class_signal out'
            )

    def __call__(
        self, timesteps: torch.Tensor, labels: Optional[torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        """Return arguments for the denoiser's forward.

        Args:
            timesteps: N integers.
            labels: N class labels on any device, or None.

        Raises:
            ValueError: Labels are asked for and missing, or are no class of
                the denoiser.
        """
        if self.kind == 'none':
            return {}
        count = self.num_classes
        if self.kind == 'random':
            return dict(class_labels=torch.randint_like(timesteps, count))
        if labels is None or ((labels < 0) | (labels >= count)).any():
            raise ValueError(
                f'expected a label in [0, {count - 1}] for every image with '
                f"teacher.class_signal='label', got {labels}; use 'none' "
                'where images are unlabelled'
            )
        device = timesteps.device
        return dict(class_labels=labels.to(device, non_blocking=True))
