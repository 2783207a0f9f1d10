"""A frozen diffusers denoiser whose layers are read at any timestep."""

from __future__ import annotations

from functools import partial
from typing import Dict, Optional, Sequence, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.logging import print_log

from repfusion_mm.models.teachers.conditioning import (
    CLASS_SIGNALS,
    ClassSignal,
)
from repfusion_mm.models.teachers.dtype import DTYPES, resolve_dtype
from repfusion_mm.models.teachers.feature_extractor import FeatureExtractor
from repfusion_mm.models.teachers.layers import (
    check_denoiser,
    check_layers,
    count_calls,
    release_unused,
    resolve_layers,
)
from repfusion_mm.models.teachers.loading import load_teacher
from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.registry import MODELS

INPUT_MODES = ('clean', 'noised')


@MODELS.register_module()
class DiffusersTeacher(nn.Module):
    """Give the features z_t = s(x, t) of a frozen diffusion model.

    The denoiser runs its own forward and is stopped as soon as the last
    wanted layer has spoken; what lies behind that layer is dropped from
    memory. The teacher stays in eval mode and without gradients for good, and
    a deep copy of it is the teacher itself, so that no averaged model holds
    it twice.

    Args:
        layers: Module paths inside the denoiser, each giving one
            N x C x H x W map, e.g. ``'mid_block.resnets.1.conv2'``. For a
            converted guided-diffusion teacher the published paths, such as
            ``'middle_block.2.out_layers.3'``, name the same modules.
        pretrained: Folder or hub id of a diffusers denoiser, e.g.
            ``'google/ddpm-cifar10-32'``.
        config: Instead of ``pretrained``, ``type`` and arguments of a
            denoiser with random weights, for tests and timing.
        scheduler: ``type`` and arguments of a diffusers scheduler. By default
            the one that lies with ``pretrained``.
        input_size: Side in pixels to which images are resized (bilinear,
            antialiased). By default images must have the side that the
            denoiser is made for, and enter as they are.
        input_mode: ``'clean'``: x enters as it is, and t only through the
            time embedding (the paper's public code). ``'noised'``: x_t is
            drawn from the scheduler, x_t = sqrt(a_t) x + sqrt(1 - a_t) eps
            (DDPM, arXiv 2006.11239, eq. 4).
        class_signal: What a class-conditional denoiser is told. ``'none'``:
            nothing is added to the time embedding. ``'random'``: a random
            class for each image. ``'label'``: the image's own label, as in
            the paper's public code. That leaks: the decoder reads back the
            label that the teacher was told, and the policy is rewarded for
            it; and labels of another data set index the wrong classes.
        dtype: What the teacher computes in, whatever the student does:
            ``'float32'``, ``'bfloat16'``, ``'float16'``, or ``'auto'``, the
            fastest of them on its device (see
            :func:`~repfusion_mm.models.teachers.dtype.resolve_dtype`).
            Features are float32.
        early_stop: Stop behind the last layer and drop the rest.
        channels_last: Keep the weights, and so the maps, with the channels
            innermost, which some devices and U-Nets compute faster.
        compile: Run the truncated pass through ``torch.compile``, once for
            each shape of a batch.

    Raises:
        ValueError: An unknown layer, a layer that is called several times or
            gives no map, a denoiser that does not take RGB images, a value
            out of its choices.
        OSError: ``pretrained`` is neither on disk nor on the hub.
    """

    def __init__(
        self,
        layers: Sequence[str],
        pretrained: Optional[str] = None,
        config: Optional[dict] = None,
        scheduler: Optional[dict] = None,
        input_size: Optional[int] = None,
        input_mode: str = 'clean',
        class_signal: str = 'none',
        dtype: str = 'auto',
        early_stop: bool = True,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        _check_choice('input_mode', input_mode, INPUT_MODES)
        _check_choice('class_signal', class_signal, CLASS_SIGNALS)
        _check_choice('dtype', dtype, DTYPES)
        for name, value in dict(
            early_stop=early_stop, channels_last=channels_last, compile=compile
        ).items():
            _check_choice(name, value, (True, False))
        self.input_size = input_size
        self.input_mode = input_mode
        self.dtype = dtype
        self.early_stop = early_stop
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.denoiser, self.scheduler = load_teacher(
            pretrained, config, scheduler
        )
        self.layers = resolve_layers(self.denoiser, layers)
        self.requires_grad_(False)
        self.eval()
        check_denoiser(self.denoiser, self.image_size)
        self.class_signal = ClassSignal(class_signal, self.denoiser)
        self._settled_on: Optional[torch.device] = None
        self.feature_shapes = self._dry_run()
        self.feature_extractor = FeatureExtractor(
            self.denoiser, self.layers, early_stop, compile
        )

    @property
    def num_timesteps(self) -> int:
        """T: timesteps run from 0 to T - 1."""
        return self.scheduler.config.num_train_timesteps

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the denoiser is made for."""
        return self.input_size or self.denoiser.config.sample_size

    def forward(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        labels: Optional[torch.Tensor] = None,
    ) -> Dict[str, torch.Tensor]:
        """Extract the features of ``layers``.

        Args:
            images: N x 3 x H x W, RGB, float in [0, 1].
            timesteps: N integers in [0, T - 1].
            labels: N class labels, read where ``class_signal='label'`` alone.

        Returns:
            Per layer an N x C x h x w float32 map.

        Raises:
            ValueError: Images of another side, without ``input_size``; or
                labels that are asked for and missing, or no class of the
                denoiser.
        """
        self._settle_on(images.device)
        feats = self._read(self.feature_extractor, images, timesteps, labels)
        return {name: feat.float() for name, feat in feats.items()}

    def train(self, mode: bool = True) -> DiffusersTeacher:
        """Stay in eval mode whatever is asked: the teacher is frozen."""
        return super().train(False)

    def __deepcopy__(self, memo: dict) -> DiffusersTeacher:
        return self

    def _settle_on(self, device: torch.device) -> None:
        """Bring the weights to the type for a device, once."""
        if self._settled_on == device:
            return
        dtype = resolve_dtype(self.dtype, device)
        self.to(dtype=dtype, memory_format=self.memory_format)
        self._settled_on = device
        print_log(f'teacher: computes in {dtype} on {device}', 'current')

    @torch.no_grad()
    def _read(
        self,
        truncated: FeatureExtractor,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        labels: Optional[torch.Tensor] = None,
    ) -> Dict[str, torch.Tensor]:
        sample = self._to_denoiser_input(images, timesteps)
        sample = sample.to(self.denoiser.dtype)
        classes = self.class_signal(timesteps, labels)
        with without_autocast(images.device):
            return truncated(sample, timesteps, **classes)

    def _to_denoiser_input(
        self, images: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        side = self.image_size
        if images.shape[-2:] != (side, side):
            if self.input_size is None:
                raise ValueError(
                    f'expected images of {side} x {side}, which the teacher '
                    f'is made for, got {tuple(images.shape[-2:])}; set '
                    f'model.teacher.input_size={side} to resize them'
                )
            images = F.interpolate(
                images,
                size=(side, side),
                mode='bilinear',
                antialias=True,
            )
        sample = images * 2 - 1
        if self.input_mode == 'noised':
            noise = torch.randn_like(sample)
            sample = self.scheduler.add_noise(sample, noise, timesteps)
        return sample

    def _dry_run(self) -> Dict[str, Tuple[int, int, int]]:
        """Find the layers' shapes on a blank image, and drop what is unused.

        Returns:
            Per layer (C, H, W) for one image of ``image_size``.
        """
        side = self.image_size
        blank = torch.zeros(1, 3, side, side)
        zeros = torch.zeros(1, dtype=torch.long)
        classes = self.class_signal(zeros, labels=zeros)
        whole = partial(self.denoiser, blank, zeros, **classes)
        stopping = FeatureExtractor(
            self.denoiser, self.layers, self.early_stop
        )
        truncated = partial(self._read, stopping, blank, zeros, labels=zeros)
        check_layers(self.denoiser, self.layers, whole, truncated, side)
        if self.early_stop:
            used = count_calls(self.denoiser, truncated)
            released = release_unused(self.denoiser, set(used))
            print_log(
                f'teacher: stops behind the last of {list(self.layers)}; '
                f'released {released / 1e6:.1f} M parameters that are never '
                'reached',
                logger='current',
            )
        return {name: tuple(f.shape[1:]) for name, f in truncated().items()}


def _check_choice(key: str, value: object, choices: Sequence) -> None:
    if value not in choices:
        raise ValueError(
            f'expected teacher.{key} to be one of {choices}, got {value!r}'
        )
