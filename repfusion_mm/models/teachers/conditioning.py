"""The class that a class-conditional denoiser is conditioned on."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import torch

from repfusion_mm.models.utils.labels import read_labels

CLASS_SIGNALS = ('none', 'random', 'label')


class ClassSignal:
    """Condition a denoiser on no class, a random one, or the image's label.

    Args:
        kind: ``'none'``, ``'random'`` or ``'label'``.
        denoiser: A diffusers denoiser. ``'none'`` removes its class
            embedding, the other kinds require one.
    """

    def __init__(self, kind: str, denoiser: Any) -> None:
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
        self, timesteps: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Dict[str, torch.Tensor]:
        """Return the keyword arguments of the denoiser's forward.

        Raises:
            ValueError: A label (``gt_label``) is needed and is missing, or is
                not a class of the denoiser.
        """
        if self.kind == 'none':
            return {}
        count = self.num_classes
        if self.kind == 'random':
            return dict(class_labels=torch.randint_like(timesteps, count))
        labels = read_labels(data_samples, len(timesteps))
        if ((labels < 0) | (labels >= count)).any():
            raise ValueError(
                f'expected a label in [0, {count - 1}] for every image with '
                f"teacher.class_signal='label', got {labels}; use 'none' "
                'where images are unlabeled'
            )
        device = timesteps.device
        return dict(class_labels=labels.to(device, non_blocking=True))
