"""Images moved, augmented and normalised as one batch."""

from __future__ import annotations

from typing import Optional, Sequence, Union

import torch
from mmengine.model import ImgDataPreprocessor

from repfusion_mm.models.data_preprocessors.batch_augments import BatchAugments
from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class BatchDataPreprocessor(ImgDataPreprocessor):
    """Preprocess equally sized 8-bit images as one tensor.

    Without ``augments`` it gives what ``ImgDataPreprocessor`` gives, to
    rounding. It stacks images on the host (in pinned memory for a GPU), moves
    them in one copy, augments in training and normalises on the device, and
    reads nothing back for crops and flips. Data samples stay on the host,
    where this package's decoders read labels.

    Args:
        mean: Of each channel, after any conversion, in [0, 255].
        std: Likewise.
        bgr_to_rgb: Whether to turn BGR into RGB. Augmentations see RGB then.
        rgb_to_bgr: Whether to turn RGB into BGR, behind the augmentations.
        non_blocking: Whether the host may go on while images are copied.
        augments: Augmentations of kornia for training, in order: class names
            of ``kornia.augmentation`` under ``type``, and their arguments.
            They see images in [0, 1]. None may move pixels where data
            samples hold label maps, boxes or key points.
        samples_on_device: Whether data samples are moved too, one by one, as
            mmpretrain's classifiers need it: set it for finetuning.
        batch_augments: None; mmpretrain's classifiers pass their
            ``train_cfg`` under this name.

    Raises:
        ImportError: ``augments`` without kornia.
        ValueError: ``batch_augments``, or augmentations that cannot be had;
            see ``BatchAugments``.
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
        super().__init__(
            mean,
            std,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            non_blocking=non_blocking,
        )
        if batch_augments is not None:
            raise ValueError(
                f'expected no batch_augments, got {batch_augments}; mix '
                'images by mmpretrain.ClsDataPreprocessor'
            )
        self.bgr_to_rgb = bgr_to_rgb
        self.rgb_to_bgr = rgb_to_bgr
        self.augments = BatchAugments(augments) if augments else None
        self.samples_on_device = samples_on_device

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``data`` with normalised ``inputs`` on the device.

        Args:
            data: ``inputs`` are N images of C x H x W in [0, 255], in a list
                (``pseudo_collate``) or stacked (``default_collate``);
                ``data_samples`` may be missing.
            training: Whether to augment.

        Raises:
            ValueError: Images of several sizes or other than ``mean`` has
                channels, or labels that augmentations would tear off.
        """
        images = self._move(data['inputs'])
        samples = data.get('data_samples')
        # A list of indices, as mmengine has it, would be copied to the device
        # in each step, and the host would wait.
        if self.bgr_to_rgb:
            images = images.flip(1)
        images = images.float()
        if training and self.augments:
            # Crops are matrices in kornia: in half they would miss by pixels.
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
            images = stack(images)
        means = len(self.mean) if self._enable_normalize else 1
        if images.dim() != 4 or means not in (1, images.shape[1]):
            raise ValueError(
                f'expected images of N x {means} x H x W for {means} means, '
                f'got {tuple(images.shape)}'
            )
        if self.device.type == 'cuda' and not images.is_cuda:
            # Only a copy from pinned memory runs beside the device's work.
            images = images.pin_memory()
        return images.to(self.device, non_blocking=self._non_blocking)


def stack(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack C x H x W images; raise a ValueError for several sizes."""
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f'expected images of one size in a batch, got {shapes[:5]}; '
            'resize or crop them in the data pipeline, or pad them by '
            'mmengine.ImgDataPreprocessor'
        )
    return torch.stack(list(images))
