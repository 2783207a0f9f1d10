"""Move, augment and normalize images as one batch."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import torch
from mmengine.model import ImgDataPreprocessor

from repfusion_mm.models.data_preprocessors.batch_augments import BatchAugments
from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_flags, check_number


@MODELS.register_module()
class BatchDataPreprocessor(ImgDataPreprocessor):
    """Preprocess equally sized 8-bit images as one tensor.

    Without ``augments`` the result equals that of ``ImgDataPreprocessor`` up
    to rounding. Images are moved in one copy, and augmented and normalized on
    the device; crops and flips do not synchronize with it. Data samples stay
    on the host, where this package's decoders read labels.

    Args:
        mean: Mean of each channel, after any conversion, in [0, 255].
        std: Standard deviation of each channel, likewise.
        bgr_to_rgb: Whether to convert BGR to RGB, before the augmentations.
        rgb_to_bgr: Whether to convert RGB to BGR, after the augmentations.
        non_blocking: Whether images are copied asynchronously.
        augments: Configs of the augmentations in training, in order. ``type``
            is the name of a class in ``kornia.augmentation``. They get images
            in [0, 1], which those of colors (``ColorJitter``,
            ``RandomGrayscale``) expect in RGB: with images in BGR, set
            ``bgr_to_rgb``. None may move pixels if data samples have label
            maps, boxes or keypoints.
        samples_on_device: Whether data samples are moved to the device too,
            as mmpretrain's classifiers need for finetuning.
        batch_augments: Must be None; mmpretrain's classifiers pass it.

    Raises:
        ImportError: ``augments`` is set, and kornia is not installed.
        ValueError: ``batch_augments`` is set, ``std`` is not positive, a flag
            is not True or False, or an augmentation is invalid; see
            ``BatchAugments``.
    """

    def __init__(
        self,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        non_blocking: bool = True,
        augments: Sequence[dict] = (),
        samples_on_device: bool = False,
        batch_augments: None = None,
    ) -> None:
        place = 'model.data_preprocessor'
        for value in std or ():
            check_number(f'each of {place}.std', value, positive=True)
        check_flags(
            place,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            non_blocking=non_blocking,
            samples_on_device=samples_on_device,
        )
        super().__init__(
            mean,
            std,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            non_blocking=non_blocking,
        )
        if batch_augments is not None:
            raise ValueError(
                f'expected no batch_augments, got {batch_augments}; use '
                'mmpretrain.ClsDataPreprocessor to mix images'
            )
        self.bgr_to_rgb = bgr_to_rgb
        self.rgb_to_bgr = rgb_to_bgr
        self.augments = BatchAugments(augments) if augments else None
        self.samples_on_device = samples_on_device

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``data`` with normalized ``inputs`` on the device.

        Args:
            data: ``inputs`` are N images of C x H x W in [0, 255], as a list
                (``pseudo_collate``) or a tensor (``default_collate``).
                ``data_samples`` is optional.
            training: Whether to augment.

        Raises:
            ValueError: The images differ in size, ``mean`` has another number
                of channels, or dense labels would not be moved with the image.
        """
        images = self._move(data['inputs'])
        samples = data.get('data_samples')
        # mmengine indexes with a list, which is copied to the device and
        # synchronizes in each step.
        if self.bgr_to_rgb:
            images = images.flip(1)
        images = images.float()
        if training and self.augments:
            # kornia crops by matrix products: in half precision they would be
            # off by pixels.
            with without_autocast(images.device):
                images = self.augments(images, samples)
        if self.rgb_to_bgr:
            images = images.flip(1)
        if self._enable_normalize:
            images = (images - self.mean).div_(self.std)
        if self.samples_on_device:
            samples = self.cast_data(samples)
        return dict(data, inputs=images, data_samples=samples)

    def _move(
        self, images: Union[torch.Tensor, Sequence[torch.Tensor]]
    ) -> torch.Tensor:
        """Return one N x C x H x W tensor on the device."""
        if not isinstance(images, torch.Tensor):
            shapes = sorted({tuple(image.shape) for image in images})
            if len(shapes) > 1:
                raise ValueError(
                    f'expected images of one size in a batch, got {shapes[:5]}'
                    '; resize or crop them in the data pipeline'
                )
            images = torch.stack(list(images))
        means = len(self.mean) if self._enable_normalize else 1
        if images.dim() != 4 or means not in (1, images.shape[1]):
            raise ValueError(
                f'expected images of N x {means} x H x W for {means} means, '
                f'got {tuple(images.shape)}'
            )
        if self.device.type == 'cuda' and not images.is_cuda:
            # Only copies from pinned memory are asynchronous.
            images = images.pin_memory()
        return images.to(self.device, non_blocking=self._non_blocking)
