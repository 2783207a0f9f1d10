"""From the student's normalised inputs back to images in [0, 1]."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn as nn

CHANNEL_ORDERS = ('rgb', 'bgr')


def to_unit_range(
    inputs: torch.Tensor, data_preprocessor: nn.Module, channel_order: str
) -> torch.Tensor:
    """Undo the data preprocessor's normalisation.

    Args:
        inputs: N x 3 x H x W, as the student sees them.
        data_preprocessor: What made them from 8-bit images; its ``mean`` and
            ``std`` are used where it normalises.
        channel_order: Order of the channels in ``inputs``.

    Returns:
        N x 3 x H x W, RGB, float32 in [0, 1].
    """
    images = inputs.float()
    if getattr(data_preprocessor, '_enable_normalize', False):
        images = images * data_preprocessor.std + data_preprocessor.mean
    images = (images / 255).clamp(0, 1)
    return images.flip(1) if channel_order == 'bgr' else images


def resolve_channel_order(
    declared: Optional[str], data_preprocessor: Optional[dict]
) -> str:
    """Find the order in which channels reach the student.

    A data preprocessor that converts says it; one that does not convert
    leaves it to the loader of the images, and then it must be declared.

    Raises:
        ValueError: It is unknown, or declared against what the data
            preprocessor says.
    """
    config = data_preprocessor if isinstance(data_preprocessor, dict) else {}
    implied = None
    if config.get('to_rgb') or config.get('bgr_to_rgb'):
        implied = 'rgb'
    elif config.get('rgb_to_bgr'):
        implied = 'bgr'
    order = declared or implied
    if order not in CHANNEL_ORDERS or (implied and order != implied):
        raise ValueError(
            f'expected model.channel_order to be one of {CHANNEL_ORDERS}, as '
            f'the student sees its images, got {declared!r} while the data '
            f'preprocessor {"gives " + implied if implied else "does not say"}'
            "; mmcv's LoadImageFromFile loads 'bgr', mmpretrain's CIFAR10 "
            "'rgb'"
        )
    return order
