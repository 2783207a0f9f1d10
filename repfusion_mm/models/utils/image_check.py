"""Check images before and after the data preprocessor."""

from __future__ import annotations

import logging
from typing import Any, Sequence, Set, Tuple

import torch
from mmengine.logging import print_log
from mmengine.model import ImgDataPreprocessor
from mmengine.utils import is_seq_of

from repfusion_mm.models.utils.image_range import undo_normalization
from repfusion_mm.models.utils.image_values import (
    check_each_scale,
    check_scale,
    find_cause,
    find_dark,
    warn_about_few_levels,
)

#: Batches of only 0 and 1 (of 8 images or more on average) before an error,
#: and as many times more if they are all black, as slices of volumes may be.
MAX_DARK = 8


class ImageCheck:
    """Check the first batch of a data preprocessor, and new dtypes later.

    Batches of only 0 and 1 show no scale, so that the next ones are checked.
    Padding is looked for in every batch.

    Register :meth:`before` as its forward pre-hook with keyword arguments, and
    :meth:`after` as its forward hook.
    """

    def __init__(self) -> None:
        self.done = False
        self.dtypes: Set[torch.dtype] = set()
        #: Largest value, number of batches and of images without larger ones.
        self.dark: Tuple[float, int, int] = (0, 0, 0)

    def before(
        self, module: torch.nn.Module, args: tuple, kwargs: dict
    ) -> None:
        """Check the images of the data pipeline.

        Raises:
            ValueError: They are not 3 x H x W in [0, 255]. In training: the
                data preprocessor needs a size, and has none.
        """
        images = find_images(args)
        if not is_seq_of(images, torch.Tensor):
            return
        if kwargs.get('training', args[1:2] == (True,)):
            check_size_setting(module)
        dtypes = {image.dtype for image in images}
        if self.done and dtypes <= self.dtypes:
            return
        check_channels(images, module)
        high = find_dark(images)
        if high is None:
            check_scale(images)
            check_each_scale(images)
            if not self.dtypes:
                warn_about_few_levels(images)
            self.dtypes |= dtypes
            self.dark = (0, 0, 0)
        else:
            self._postpone(images, high)

    def _postpone(self, images: Sequence[torch.Tensor], high: float) -> None:
        """Count a batch of only 0 and 1, and refuse too many of them."""
        high = max(high, self.dark[0])
        num_batches = self.dark[1] + 1
        num_images = self.dark[2] + sum(
            len(image) if image.dim() == 4 else 1 for image in images
        )
        self.dark = high, num_batches, num_images
        if num_batches == 1:
            print_log(
                'the first images have no values above 1, so that their '
                'range is checked with the next batches',
                logger='current',
                level=logging.WARNING,
            )
        limit = MAX_DARK if high > 0.5 else MAX_DARK**2
        if num_batches >= limit and num_images >= 8 * limit:
            raise ValueError(
                'expected RGB images in [0, 255] from the data pipeline, got '
                f'no values above {high:.0f} in {num_images} images '
                f'({num_batches} batches): {find_cause(0, high, 0, True)}'
            )

    def after(self, module: torch.nn.Module, args: tuple, output: Any) -> None:
        """Check the images that are recovered for the teacher.

        Raises:
            ValueError: They are not N x 3 x H x W in [0, 255], or padded, or
                the student gets images in [0, 255] that are normalized as if
                in [0, 1].
        """
        inputs = output.get('inputs') if isinstance(output, dict) else None
        if inputs is None:
            return
        name = type(module).__name__
        if not torch.is_tensor(inputs):
            raise ValueError(
                'expected one tensor of images from model.data_preprocessor, '
                f'got a {type(inputs).__name__} from {name}; set its type to '
                'mmengine.ImgDataPreprocessor or '
                'mmpretrain.ClsDataPreprocessor'
            )
        check_padding(find_images(args), inputs, module)
        if self.done or self.dark[1]:
            return
        self.done = True
        pixels = undo_normalization(inputs, module)
        if pixels.dim() != 4 or pixels.shape[1] != 3:
            raise _wrong_shape(pixels.shape, name)
        check_scale([pixels], name)
        check_mean_and_std(module)


def check_mean_and_std(module: torch.nn.Module) -> None:
    """Refuse a mean or std for images in [0, 1]."""
    mean, std = (getattr(module, name, None) for name in ('mean', 'std'))
    if not torch.is_tensor(mean) or not torch.is_tensor(std) or std.is_meta:
        return
    names = ['std'] if std.max() < 1 else []
    if mean.min() > 0 and mean.max() < 1 and (names or std.max() > 1):
        names.insert(0, 'mean')
    if names:
        numbers = [
            [round(v, 4) for v in x.flatten().tolist()] for x in (mean, std)
        ]
        raise ValueError(
            'expected mean and std of model.data_preprocessor for images '
            f'in [0, 255], got mean={numbers[0]} and std={numbers[1]}, which '
            'are (partly) for images in [0, 1]; multiply '
            f'{" and ".join(names)} by 255'
        )


def find_images(args: tuple) -> Any:
    """Return what a data preprocessor gets as images, in a sequence."""
    data = args[0] if args else None
    inputs = data.get('inputs') if isinstance(data, dict) else None
    return [inputs] if torch.is_tensor(inputs) else inputs


def check_size_setting(module: torch.nn.Module) -> None:
    """Refuse mmseg's data preprocessor without the size it needs."""
    sizes = [getattr(module, name, 0) for name in ('size', 'size_divisor')]
    if 0 not in sizes and (sizes[0] is None) == (sizes[1] is None):
        raise ValueError(
            'expected one of size and size_divisor of model.data_preprocessor '
            f'({type(module).__name__}), got size={sizes[0]} and '
            f'size_divisor={sizes[1]}; set model.data_preprocessor.size to '
            'the size of the images'
        )


def check_padding(
    images: Any, inputs: torch.Tensor, module: torch.nn.Module
) -> None:
    """Refuse a data preprocessor that pads images, which the teacher sees.

    Batch augmentations may change the size of images.

    Raises:
        ValueError: It pads them to a size, or images of several sizes.
    """
    if not is_seq_of(images, torch.Tensor):
        return
    sizes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(sizes) > 1:
        raise ValueError(
            'expected images of one size in a batch, which are not padded, '
            f'got {sizes[0]} and {sizes[-1]}; resize them in the pipeline '
            '(keep_ratio=False), or crop them'
        )
    settings = {
        name: getattr(module, name, None)
        for name in ('size', 'size_divisor', 'pad_size_divisor')
    }
    settings = {
        n: value for n, value in settings.items() if value not in (None, 1)
    }
    height, width = inputs.shape[-2:]
    for old in sizes:
        if height <= old[0] and width <= old[1]:
            continue
        for name, value in settings.items():
            if name != 'size' and not any(side % value for side in old):
                continue
            raise ValueError(
                'expected images that the data preprocessor does not pad, '
                'because the teacher would see the padding, got '
                f'{old[0]} x {old[1]} padded to {height} x {width} by '
                f'model.data_preprocessor.{name}={value}; resize or crop them '
                f'in the pipeline, or correct {name}'
            )


def check_channels(images: Sequence[torch.Tensor], module: Any) -> None:
    """Refuse images that a data preprocessor does not make N x 3 x H x W."""
    allowed = {3} if isinstance(module, ImgDataPreprocessor) else {1, 3}
    for shape in {tuple(image.shape) for image in images}:
        if len(shape) < 3 or shape[-3] not in allowed:
            raise _wrong_shape(shape, 'the data pipeline')


def _wrong_shape(shape: Sequence[int], source: str) -> ValueError:
    return ValueError(
        f'expected RGB images of 3 x H x W from {source}, got '
        f'{tuple(shape)}; load them with color_type="color", which converts '
        'gray images and removes an alpha channel, and pack them with '
        'channels last (H x W x 3); for arrays of one channel, as of MNIST, '
        'use mmpretrain.ClsDataPreprocessor with three means'
    )
