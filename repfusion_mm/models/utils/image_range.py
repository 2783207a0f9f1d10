"""Convert the student's normalized inputs back to images in [0, 1]."""

from __future__ import annotations

from typing import Any, Optional

import torch

CHANNEL_ORDERS = ('rgb', 'bgr')


def to_unit_range(
    inputs: torch.Tensor, data_preprocessor: Any, channel_order: str
) -> torch.Tensor:
    """Undo the data preprocessor's normalization.

    Args:
        inputs: N x 3 x H x W, computed from 8-bit images.
        data_preprocessor: The data preprocessor that computed them.
        channel_order: Order of their channels, ``'rgb'`` or ``'bgr'``.

    Returns:
        N x 3 x H x W, RGB, float32 in [0, 1].
    """
    pixels = undo_normalization(inputs, data_preprocessor)
    images = (pixels / 255).clamp(0, 1)
    return images.flip(1) if channel_order == 'bgr' else images


def from_unit_range(
    images: torch.Tensor, data_preprocessor: Any, channel_order: str
) -> torch.Tensor:
    """Apply the data preprocessor's normalization.

    It is the inverse of :func:`to_unit_range`.
    """
    if channel_order == 'bgr':
        images = images.flip(1)
    pixels = images * 255
    if getattr(data_preprocessor, '_enable_normalize', False):
        pixels = (pixels - data_preprocessor.mean) / data_preprocessor.std
    return pixels


def undo_normalization(
    inputs: torch.Tensor, data_preprocessor: Any
) -> torch.Tensor:
    """Return pixels in [0, 255], in float32 and the inputs' channel order."""
    pixels = inputs.float()
    if getattr(data_preprocessor, '_enable_normalize', False):
        pixels = pixels * data_preprocessor.std + data_preprocessor.mean
    return pixels


def resolve_channel_order(
    declared: Optional[str], data_preprocessor: Optional[dict]
) -> str:
    """Return the channel order of the model's inputs.

    A data preprocessor that converts channels determines the order. Otherwise
    the order depends on how images are loaded, and must be declared.

    Raises:
        ValueError: The order is unknown, or contradicts the data
            preprocessor.
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
            f'expected model.channel_order to be one of {CHANNEL_ORDERS}, the '
            f"order of the model's inputs, got {declared!r} while the data "
            f'preprocessor {"returns " + implied if implied else "sets none"}'
            '; set it, or bgr_to_rgb of the data preprocessor (mmcv '
            "LoadImageFromFile loads 'bgr', mmpretrain's CIFAR10 'rgb')"
        )
    return order
