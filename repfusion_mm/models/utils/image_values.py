"""Judge whether values are those of images with 8 bits a channel."""

from __future__ import annotations

import logging
import math
from typing import Optional, Sequence

import torch
from mmengine.logging import print_log

#: Values of floating-point images below 0 by less than this are taken for
#: overshoots of interpolation and color augmentation.
OVERSHOOT = 64
#: Largest share of values below -OVERSHOOT.
MAX_OUTSIDE = 0.05
#: Largest value of floating-point images of 8 bits. PhotoMetricDistortion of
#: mmdet does not clip: bright images become up to 1.5 * (255 + 32) = 430.5.
MAX_FLOAT = 2 * 255
#: Largest value of images in [0, 1], with an overshoot of interpolation.
MAX_UNIT = 1.5
#: No smaller range than this of 8-bit images has negative values.
MAX_NORMALIZED = 16
#: Largest number of different values in an image of nearly one color.
MAX_LEVELS = 32
#: Largest value of images that are taken for label maps, or for images of
#: 5 bits or less.
MAX_FEW = 31


def find_dark(images: Sequence[torch.Tensor]) -> Optional[float]:
    """Return the largest value of images of only 0 and 1, or None."""
    if images[0].is_meta:
        return None
    values = [image.flatten().float() for image in images]
    high = max(float(value.max()) for value in values)
    if not high <= MAX_UNIT:  # also NaN
        return None
    distance = max(
        float(torch.minimum(value.abs(), (value - 1).abs()).max())
        for value in values
    )
    return high if distance < 1e-3 else None


def check_scale(
    images: Sequence[torch.Tensor], preprocessor: Optional[str] = None
) -> None:
    """Refuse images that cannot have 8 bits a channel.

    Args:
        images: Images of any shape.
        preprocessor: The name of the data preprocessor, if it changes images
            that are right before.

    Raises:
        ValueError: All values are in [0, 1]; or around zero with negative
            ones; or they exceed [0, 255] by more than an augmentation.
    """
    if images[0].is_meta:
        return
    dtypes = sorted({str(image.dtype)[len('torch.') :] for image in images})
    values = torch.cat([image.flatten().float() for image in images])
    outside = values < -OVERSHOOT
    stats = [values.min(), values.max(), values.mean()]
    stats += [
        mask.float().mean() for mask in (values <= 0, values >= 255, outside)
    ]
    low, high, mean, black, white, share = torch.stack(stats).tolist()
    cause = find_cause(
        low,
        high,
        share,
        integer=not any(image.is_floating_point() for image in images),
    )
    if cause and preprocessor:
        cause = (
            'the images of the data pipeline are right, and '
            f'{preprocessor} or its augments change their range; remove '
            'Normalize and the like from model.data_preprocessor (augments), '
            'which normalizes last by mean and std'
        )
    if cause:
        source = preprocessor or 'the data pipeline'
        raise ValueError(
            f'expected RGB images in [0, 255] from {source}, got '
            f'{" and ".join(dtypes)} '
            f'values in [{low:.4g}, {high:.4g}] with mean {mean:.4g}, of '
            f'which the teacher would see {black:.0%} as 0 and {white:.0%} as '
            f'1: {cause}'
        )


def check_each_scale(images: Sequence[torch.Tensor]) -> None:
    """Refuse single images that are normalized, or in [0, 1].

    Right images may be black, also after a random change of brightness: these
    have few different values.

    Args:
        images: Images of 3 x H x W, or N x 3 x H x W.

    Raises:
        ValueError: One of the images is normalized or in [0, 1].
    """
    for image in images:
        if image.is_meta or not image.is_floating_point():
            continue
        values = torch.atleast_2d(image.float().flatten(-3))
        low, high, mean = values.amin(1), values.amax(1), values.mean(1)
        negative = (values < -0.1).float().mean(1) > MAX_OUTSIDE
        small = negative & (low > -3) & (high < 3)
        small |= (low >= -0.1) & (high <= MAX_UNIT) & (mean > 0.1)
        small |= (values < -OVERSHOOT).float().mean(1) > MAX_OUTSIDE
        for pixels in values[small]:
            if len(pixels.unique()) > MAX_LEVELS:
                check_scale([pixels])


def warn_about_few_levels(images: Sequence[torch.Tensor]) -> None:
    """Log a warning if all of several images are almost black."""
    num_images = sum(len(i) if i.dim() == 4 else 1 for i in images)
    if num_images < 4 or images[0].is_meta:
        return
    high = max(float(image.max()) for image in images)
    if high <= MAX_FEW:
        print_log(
            f'the teacher sees almost black images: the first {num_images} '
            f'have no values above {high:.4g} of 255; if they are label maps, '
            'correct the folder of images, and if they have fewer than 8 '
            'bits, scale them to [0, 255]',
            logger='current',
            level=logging.WARNING,
        )


def find_cause(
    low: float, high: float, share: float, integer: bool
) -> Optional[str]:
    """Return why values are not those of 8-bit images, or None.

    Args:
        low: Smallest value.
        high: Largest value.
        share: Share of values below ``-OVERSHOOT``.
        integer: Whether the images have integers.
    """
    settings = 'set mean and std of model.data_preprocessor for [0, 255]'
    if not math.isfinite(low + high):
        return 'NaN or Inf; remove these images or the operation'
    if low < -0.1 and high <= MAX_NORMALIZED:
        return (
            'they are already normalized; remove Normalize and ToTensor from '
            f'the pipeline, and {settings}'
        )
    if high < 1e-3:
        return 'they are black; check the images and the pipeline'
    if high <= MAX_UNIT:
        return (
            'they are in [0, 1]; remove ToTensor or the division by 255 from '
            f'the pipeline, and {settings} (multiply masks of 0 and 1 by 255)'
        )
    exceeds = (low < 0 or high > 255) if integer else share > MAX_OUTSIDE
    if high > MAX_FLOAT or (exceeds and low >= -OVERSHOOT):
        return (
            'they have more than 8 bits; convert the files to 8 bits (value * '
            '255 / largest value), or load files that use all 16 bits with '
            'color_type="color" and imdecode_backend="cv2"'
        )
    if low < -255 or exceeds:
        return (
            'a mean was subtracted; remove Normalize from the pipeline, and '
            f'{settings}'
        )
    return None
