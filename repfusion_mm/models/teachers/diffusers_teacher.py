"""A frozen diffusers denoiser whose layers are read at any timestep."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.teachers.base import BaseTeacher
from repfusion_mm.models.teachers.conditioning import (
    CLASS_SIGNALS,
    ClassSignal,
)
from repfusion_mm.models.teachers.dtype import DTYPES, resolve_dtype
from repfusion_mm.models.teachers.feature_extractor import FeatureExtractor
from repfusion_mm.models.teachers.fingerprint import hash_config, hash_weights
from repfusion_mm.models.teachers.layers import (
    check_denoiser,
    check_layers,
    count_calls,
    read_side,
    release_unused,
    resolve_layers,
)
from repfusion_mm.models.teachers.loading import load_teacher
from repfusion_mm.models.teachers.noise_schedule import (
    add_noise,
    read_alphas_cumprod,
)
from repfusion_mm.models.utils.autocast import without_autocast
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import (
    check_choice,
    check_flags,
    check_integer,
)

INPUT_MODES = ('clean', 'noised')


@MODELS.register_module()
class DiffusersTeacher(BaseTeacher):
    """Extract the features z_t = s(x, t) of a frozen diffusion model.

    The denoiser runs its own forward, which exits early after the last
    requested layer. The weights of later layers are released.

    Args:
        layers: Module paths inside the denoiser, each of which outputs one
            N x C x H x W map, e.g. ``'mid_block.resnets.1.conv2'``. For a
            converted guided-diffusion teacher the published paths, such as
            ``'middle_block.2.out_layers.3'``, name the same modules.
        pretrained: Folder or hub id of a diffusers denoiser, e.g.
            ``'google/ddpm-cifar10-32'``.
        config: Instead of ``pretrained``, ``type`` and arguments of a
            denoiser with random weights, for tests and timing.
        scheduler: ``type`` and arguments of a diffusers scheduler of the DDPM
            family, which gives T and a_t of the denoiser's training. By
            default the scheduler in the folder of ``pretrained``.
        input_size: Side in pixels to which images are resized (bilinear,
            antialiased). By default images are not resized, and must have
            the side that the denoiser is made for.
        input_mode: ``'clean'``: the denoiser gets x itself, and t only
            through the time embedding (the paper's implementation).
            ``'noised'``: it gets x_t = sqrt(a_t) x + sqrt(1 - a_t) eps with
            the scheduler's ``alphas_cumprod`` (DDPM, arXiv 2006.11239,
            eq. 4).
        class_signal: What a class-conditional denoiser is conditioned on.
            ``'none'``: no class. ``'random'``: a random class for each image.
            ``'label'``: the image's own label, as in the paper's
            implementation. This leaks the label: the decoder reads it back
            from the features, and the policy is rewarded for that. Labels
            of another dataset name wrong classes.
        dtype: The dtype that the teacher computes in, independent of the
            student and of autocast: ``'float32'``, ``'bfloat16'``,
            ``'float16'``, or ``'auto'``, the fastest on the teacher's device
            (see :func:`~repfusion_mm.models.teachers.dtype.resolve_dtype`).
            Features are returned as float32.
        early_stop: Exit after the last layer and release later weights.
        channels_last: Store the weights, and so the maps, in the channels
            last memory format, which is faster on some devices.
        compile: Run the pass up to the last layer through ``torch.compile``,
            which compiles once for each shape of a batch.

    Raises:
        ValueError: A layer is unknown, runs more than once, or does not
            output one map; the denoiser does not take RGB images; the
            scheduler is of another family (EDM, flow matching, VE); or an
            argument is not one of its choices.
        OSError: ``pretrained`` is neither on disk nor on the hub.
    """

    denoiser: Any

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
        for name, value, choices in (
            ('input_mode', input_mode, INPUT_MODES),
            ('class_signal', class_signal, CLASS_SIGNALS),
            ('dtype', dtype, DTYPES),
        ):
            check_choice(f'model.teacher.{name}', value, choices)
        check_flags(
            'model.teacher',
            early_stop=early_stop,
            channels_last=channels_last,
            compile=compile,
        )
        if input_size is not None:
            check_integer('model.teacher.input_size', input_size)
        self.input_size = input_size
        self.input_mode = input_mode
        self.dtype = dtype
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.denoiser, self.scheduler = load_teacher(
            pretrained, config, scheduler
        )
        self._alphas_cumprod = read_alphas_cumprod(self.scheduler)
        self.num_timesteps = len(self._alphas_cumprod)
        check_denoiser(self.denoiser, self.num_timesteps)
        self.image_size = input_size or read_side(
            self.denoiser.config.get('sample_size')
        )
        self.layers = resolve_layers(self.denoiser, layers)
        self.feature_extractor = FeatureExtractor(
            self.denoiser, self.layers, early_stop, compile
        )
        self.freeze()
        self.class_signal = ClassSignal(class_signal, self.denoiser)
        with self.feature_extractor.uncompiled():
            self.feature_shapes = self._dry_run()
        self._logged_dtype: Optional[tuple] = None
        # With a GPU, 'auto' waits for .to(): rounding to the CPU's bfloat16
        # first would lose bits that float16 and float32 keep.
        if dtype != 'auto' or not torch.cuda.is_available():
            self._cast_weights()

    def forward(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence] = None,
    ) -> Dict[str, torch.Tensor]:
        """Extract the features of ``layers``; see the base class.

        ``gt_label`` of the data samples is read if ``class_signal='label'``.

        Raises:
            ValueError: Images of another side, without ``input_size``; or
                labels that are needed and missing, or not a class of the
                denoiser.
        """
        feats = self._extract(images, timesteps, data_samples)
        return {name: feat.float() for name, feat in feats.items()}

    def fingerprint(self) -> Dict[str, object]:
        """Return what features depend on; see the base class.

        Call it after the teacher was moved to its device, which settles its
        dtype.
        """
        for key, value, cacheable in (
            ('input_mode', self.input_mode, 'clean'),
            ('class_signal', self.class_signal.kind, 'none'),
        ):
            if value != cacheable:
                raise ValueError(
                    f'expected teacher.{key}={cacheable!r} with cached '
                    f'features, got {value!r}, with which features depend on '
                    f'more than the image; use {cacheable!r}, or distill '
                    'without CachedFeaturesDataset'
                )
        return dict(
            weights=hash_weights(self.denoiser),
            denoiser=hash_config(self.denoiser),
            layers={k: list(v) for k, v in self.feature_shapes.items()},
            dtype=str(self.denoiser.dtype).replace('torch.', ''),
            image_size=self.image_size,
            input_mode=self.input_mode,
            class_signal=self.class_signal.kind,
        )

    def _apply(self, fn, *args, **kwargs) -> DiffusersTeacher:
        """Cast the weights for the new device after ``.to()`` and the like."""
        super()._apply(fn, *args, **kwargs)
        self._cast_weights()
        return self

    def _cast_weights(self) -> None:
        device = self.denoiser.device
        self._alphas_cumprod = self._alphas_cumprod.to(device)
        dtype = resolve_dtype(self.dtype, device)
        # Not self.to(), which calls _apply, nor diffusers' own to(), which
        # warns of every cast.
        nn.Module.to(self.denoiser, dtype=dtype)
        self.denoiser.to(memory_format=self.memory_format)
        if self._logged_dtype != (dtype, device):
            self._logged_dtype = dtype, device
            print_log(f'teacher: computes in {dtype} on {device}', 'current')

    @torch.no_grad()
    def _extract(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[Sequence],
    ) -> Dict[str, torch.Tensor]:
        sample = self._to_denoiser_input(images, timesteps)
        sample = sample.to(self.denoiser.dtype)
        classes = self.class_signal(timesteps, data_samples)
        with without_autocast(images.device):
            return self.feature_extractor(sample, timesteps, **classes)

    def _to_denoiser_input(
        self, images: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        side = self.image_size
        if self.input_size is None and images.shape[-2:] != (side, side):
            raise ValueError(
                f'expected images of {side} x {side}, which the teacher is '
                f'made for, got {tuple(images.shape[-2:])}; set '
                f'model.teacher.input_size={side} to resize them'
            )
        sample = resize_to(images, (side, side)) * 2 - 1
        if self.input_mode == 'noised':
            noise = torch.randn_like(sample)
            sample = add_noise(sample, noise, timesteps, self._alphas_cumprod)
        return sample

    def _dry_run(self) -> Dict[str, Tuple[int, ...]]:
        """Return (C, H, W) of each layer, and release unused weights."""
        side = self.image_size
        blank = torch.zeros(1, 3, side, side)
        zeros = torch.zeros(1, dtype=torch.long)
        samples = [BaseDataElement(gt_label=zeros)]
        classes = self.class_signal(zeros, samples)
        full_pass = partial(self.denoiser, blank, zeros, **classes)
        extract = partial(self._extract, blank, zeros, samples)
        check_layers(self.denoiser, self.layers, full_pass, extract, side)
        if self.feature_extractor.early_stop:
            used = count_calls(self.denoiser, extract)
            released = release_unused(self.denoiser, set(used))
            print_log(
                f'teacher: exits after the last of {list(self.layers)}; '
                f'released {released / 1e6:.1f} M parameters of later layers',
                logger='current',
            )
        return {k: tuple(feat.shape[1:]) for k, feat in extract().items()}
