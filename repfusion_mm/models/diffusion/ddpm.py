"""Train a diffusion model to use as a teacher."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import torch
import torch.nn as nn

from repfusion_mm.models.diffusion.base import GenerativeModel
from repfusion_mm.models.teachers.layers import check_denoiser
from repfusion_mm.models.teachers.loading import build_denoiser
from repfusion_mm.models.teachers.noise_schedule import (
    add_noise,
    build_scheduler,
    ddpm_levels,
    read_alphas_cumprod,
)
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class DenoisingDiffusion(GenerativeModel):
    """Train a diffusers denoiser to predict the noise in x_t.

    Minimizes ||eps - s(x_t, t)||^2 with uniform t (the "simple" loss of DDPM,
    arXiv 2006.11239, eq. 14).

    Args:
        denoiser: ``type`` and arguments of a diffusers model that takes
            (sample, timestep), such as ``UNet2DModel``.
        scheduler: ``type`` and arguments of a diffusers scheduler.
        channel_order: ``'rgb'`` or ``'bgr'``, the channel order of the inputs.
            Required if the data preprocessor does not convert channels.
        data_preprocessor: Config of the data preprocessor. Its mean and std
            are used to convert its outputs to images in [0, 1].
        init_cfg: Initialization config.

    Raises:
        ValueError: The denoiser does not take RGB images of its
            ``sample_size``, or the scheduler does not predict the noise.
    """

    denoiser: Any
    alphas_cumprod: torch.Tensor

    def __init__(
        self,
        denoiser: dict,
        scheduler: dict,
        channel_order: Optional[str] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(channel_order, data_preprocessor, init_cfg)
        self.denoiser = build_denoiser(denoiser)
        self.scheduler = build_scheduler(scheduler, 'model.scheduler')
        # Not saved: the scheduler is part of the config.
        self.register_buffer(
            'alphas_cumprod',
            read_alphas_cumprod(self.scheduler, 'model.scheduler'),
            persistent=False,
        )
        check_denoiser(self.denoiser.config, len(self.alphas_cumprod), 'model')
        channels = self.denoiser.config.get('in_channels')
        if channels != 3:
            raise ValueError(
                'expected a denoiser of RGB images (in_channels 3), got '
                f'in_channels {channels}; set model.denoiser.in_channels to 3'
            )
        outputs = self.denoiser.config.get('out_channels')
        if outputs != 3:
            raise ValueError(
                'expected model.denoiser.out_channels 3, as the noise of RGB '
                f'images, got {outputs}; set it to 3'
            )
        check_conditions(self.denoiser)
        check_sample_size(self.denoiser)
        check_outputs(self.scheduler)
        try:
            self.build_sampler().set_timesteps(len(self.alphas_cumprod))
        except ValueError as error:
            raise ValueError(
                'expected model.scheduler with which DDIM samples images, '
                f'got {scheduler} ({error}); correct it'
            ) from error

    def loss(self, images: torch.Tensor) -> Dict[str, torch.Tensor]:
        """Compute the denoising loss at random timesteps."""
        clean = images
        side = self.denoiser.config.sample_size
        expected = (side, side) if isinstance(side, int) else tuple(side)
        if tuple(clean.shape[2:]) != expected:
            raise ValueError(
                f'expected images of {expected[0]} x {expected[1]}, the '
                f'sample_size of the denoiser, got {tuple(clean.shape[2:])}; '
                'crop or resize them in the pipeline, or set '
                'model.denoiser.sample_size'
            )
        timesteps = torch.randint(
            len(self.alphas_cumprod), (len(clean),), device=clean.device
        )
        noise = torch.randn_like(clean)
        levels = ddpm_levels(self.alphas_cumprod)
        noised = add_noise(clean, noise, timesteps, levels)
        predicted = self.denoiser(noised, timesteps).sample
        return dict(loss=(predicted.float() - noise).pow(2).mean())

    @torch.no_grad()
    def sample(
        self, num_images: int, num_steps: int = 50, seed: int = 0
    ) -> torch.Tensor:
        """Sample images with DDIM (arXiv 2010.02502).

        Args:
            num_images: Number of images.
            num_steps: Number of denoising steps, at most T.
            seed: Seed of the initial noise.

        Returns:
            num_images x 3 x H x W, RGB, in [0, 1].
        """
        from diffusers import DDIMPipeline

        pipeline: Any = DDIMPipeline(self.denoiser, self.build_sampler())
        pipeline.set_progress_bar_config(disable=True)
        training = self.denoiser.training
        self.denoiser.eval()
        images = pipeline(
            num_images,
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=min(num_steps, len(self.alphas_cumprod)),
            output_type='np',
        ).images
        self.denoiser.train(training)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def save_pretrained(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the denoiser and its scheduler."""
        # Not diffusers' own to(), which warns of every cast.
        nn.Module.to(self.denoiser, dtype)
        self.denoiser.save_pretrained(folder)
        self.scheduler.save_pretrained(folder)

    def build_sampler(self) -> Any:
        """Build the DDIM scheduler of the training's noise schedule."""
        from diffusers import DDIMScheduler

        # Pass the betas, because DDIMScheduler does not know the schedules of
        # all other classes.
        alphas = self.alphas_cumprod.double().cpu()
        betas = 1 - alphas / torch.cat([alphas.new_ones(1), alphas[:-1]])
        return DDIMScheduler.from_config(
            self.scheduler.config,
            trained_betas=betas.tolist(),
            rescale_betas_zero_snr=False,  # the betas are already rescaled
            steps_offset=0,  # with others, the last timestep is T, not T - 1
        )


def check_outputs(scheduler: Any) -> None:
    """Refuse a scheduler that expects other outputs than the noise.

    Raises:
        ValueError: It expects another prediction or a learned variance.
    """
    prediction = scheduler.config.get('prediction_type', 'epsilon')
    if prediction != 'epsilon':
        raise ValueError(
            "expected model.scheduler.prediction_type 'epsilon', got "
            f'{prediction!r}; other predictions are not trained'
        )
    variance = str(scheduler.config.get('variance_type'))
    if variance.startswith('learned'):
        raise ValueError(
            'expected model.scheduler.variance_type to be a fixed variance, '
            f'got {variance!r}, which is not trained; leave it out'
        )


def check_conditions(denoiser: Any) -> None:
    """Refuse a denoiser that needs more than images and timesteps.

    Raises:
        ValueError: It is conditioned on classes.
    """
    given = {
        name: denoiser.config.get(name)
        for name in ('num_class_embeds', 'class_embed_type')
        if denoiser.config.get(name) is not None
    }
    if given:
        raise ValueError(
            'expected a denoiser without classes, as labels are ignored, got '
            f'{given}; remove {" and ".join(given)} from model.denoiser'
        )


def check_sample_size(denoiser: Any) -> None:
    """Refuse a denoiser that does not run on images of its ``sample_size``.

    Only shapes are computed. If it fails, larger sizes are tried (multiples
    of ``2 ** (levels - 1)`` and of 64), to suggest one in the error.

    Raises:
        ValueError: It does not run on images of this size.
    """
    size = denoiser.config.get('sample_size')
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if [*map(type, sides)] != [int, int] or min(sides) < 1:
        raise ValueError(
            'expected model.denoiser.sample_size to be a positive integer or '
            f'two (height, width), got {size!r}; correct it'
        )
    shapes = copy.deepcopy(denoiser).to('meta')
    error = _dry_run(shapes, sides)
    if error is None:
        return
    levels = len(denoiser.config.get('block_out_channels') or [None])
    for multiple in (2 ** (levels - 1), 64):
        rounded = [-(-side // multiple) * multiple for side in sides]
        if _dry_run(shapes, rounded) is None:
            raise ValueError(
                'expected a denoiser that runs on images of its sample_size, '
                f'got sample_size={size} ({error}); set it (image_size in '
                f'configs/teacher/ddpm_custom.py) to a multiple of {multiple}'
            ) from error
    raise ValueError(
        'expected model.denoiser to take (images, timesteps) of any size, '
        f'got {type(error).__name__} ({error}); correct its arguments'
    ) from error


def _dry_run(denoiser: Any, sides: Sequence[int]) -> Optional[Exception]:
    """Return the error of a denoiser on the meta device, if it has one."""
    images = torch.zeros(1, 3, *sides, device='meta')
    try:
        denoiser(images, torch.zeros(1, dtype=torch.long, device='meta'))
    except NotImplementedError:  # an operation without a meta kernel
        return None
    except Exception as error:
        return error
    return None
