"""Check the pixels that the teacher gets before the first iteration."""

from __future__ import annotations

from typing import Any, Optional

from repfusion_mm.engine.preflight.channel_order import check_channel_order
from repfusion_mm.engine.preflight.label_maps import check_label_maps
from repfusion_mm.engine.preflight.stored_values import check_stored_values


def check_pixels(
    dataset: Any, model: Any, setting: Optional[str] = None
) -> None:
    """Check the values, channel order and label maps of images.

    Args:
        dataset: The dataset, or one that wraps others.
        model: A ``RepFusion`` or ``DenoisingDiffusion``.
        setting: The setting that holds the dataset, if the model is trained
            with another one.

    Raises:
        ValueError: The teacher would get other images than those that are
            stored.
    """
    check_stored_values(dataset)
    check_channel_order(dataset, model, setting)
    check_label_maps(dataset)
