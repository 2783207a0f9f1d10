"""What a denoiser is conditioned on."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.families import Condition, DenoiserFamily
from repfusion_mm.models.utils.labels import read_labels

CLASS_SIGNALS = ('none', 'random', 'label')


class ClassSignal:
    """Condition a denoiser on no class, a random one, or the image's label.

    Args:
        kind: ``'none'``, ``'random'`` or ``'label'``.
        family: The family of the denoiser, which must have classes for the
            last two kinds.
    """

    def __init__(self, kind: str, family: DenoiserFamily) -> None:
        self.kind = kind
        self.num_classes = family.num_classes
        self.null_class = family.null_class if self.num_classes else None
        if kind != 'none' and not self.num_classes:
            raise ValueError(
                'expected a class-conditional denoiser for '
                f'teacher.class_signal={kind!r}, got one without classes; '
                'leave class_signal out'
            )

    def prepare(self, denoiser: Any) -> None:
        """Remove the class embedding of a denoiser that runs without one."""
        if (
            self.num_classes
            and self.kind == 'none'
            and self.null_class is None
        ):
            denoiser.class_embedding = None

    def __call__(
        self, timesteps: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Dict[str, torch.Tensor]:
        """Return ``class_labels`` of N images, or nothing.

        Raises:
            ValueError: A label (``gt_label``) is needed and is missing, or is
                not a class of the denoiser.
        """
        if self.kind == 'none':
            if self.null_class is None:
                return {}
            null = torch.full_like(timesteps, self.null_class)
            return dict(class_labels=null)
        count = self.num_classes
        if self.kind == 'random':
            return dict(class_labels=torch.randint_like(timesteps, count))
        labels = read_labels(data_samples, len(timesteps))
        if labels.is_meta:  # a dry run
            return dict(class_labels=torch.zeros_like(timesteps))
        if ((labels < 0) | (labels >= count)).any():
            raise ValueError(
                f'expected a label in [0, {count - 1}] for every image with '
                f"model.teacher.class_signal='label', got {labels}; set it to "
                "'none' or 'random'"
            )
        device = timesteps.device
        return dict(class_labels=labels.to(device, non_blocking=True))


class Conditioning(nn.Module):
    """Condition a denoiser on a text, a class, both or nothing.

    The text is in the module's state.

    Args:
        text: What :func:`~.prompts.load_condition` returns.
        classes: The class of each image.
    """

    def __init__(self, text: Condition, classes: ClassSignal) -> None:
        super().__init__()
        self.classes = classes
        for name, value in text.items():
            self.register_buffer(name, value)

    @property
    def text(self) -> Condition:
        """The encoded text of one image."""
        return dict(self.named_buffers())

    def forward(
        self, timesteps: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Condition:
        """Return the condition of N images."""
        text = {
            name: value.expand(len(timesteps), *value.shape[1:])
            for name, value in self.text.items()
        }
        return {**text, **self.classes(timesteps, data_samples)}
