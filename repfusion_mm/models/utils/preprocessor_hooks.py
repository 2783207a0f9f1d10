"""Hooks of torch on the data preprocessor of a model."""

from __future__ import annotations

import torch.nn as nn

from repfusion_mm.models.utils.image_check import ImageCheck
from repfusion_mm.models.utils.partial_labels import (
    hide_labels,
    restore_labels,
)


def register_hooks(data_preprocessor: nn.Module) -> None:
    """Check the first batch of images, and let any image be unlabeled.

    As hooks, so that this holds for all that call the data preprocessor:
    training, also distributed, the probe and the feature cache.
    """
    check = ImageCheck()
    data_preprocessor.register_forward_pre_hook(check.before, with_kwargs=True)
    data_preprocessor.register_forward_hook(check.after)
    data_preprocessor.register_forward_pre_hook(hide_labels, with_kwargs=True)
    data_preprocessor.register_forward_hook(restore_labels)
