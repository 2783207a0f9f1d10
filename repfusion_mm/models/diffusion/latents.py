"""The autoencoder and the pipeline of a latent diffusion model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch

from repfusion_mm.models.teachers.families import find_family
from repfusion_mm.models.teachers.inputs.conditioning import ClassSignal
from repfusion_mm.models.teachers.inputs.image_encoder import ImageEncoder
from repfusion_mm.models.teachers.loading.denoiser import (
    Source,
)
from repfusion_mm.models.teachers.loading.folders import (
    Part,
    find_image_encoder,
)


def find_autoencoder(folder: str) -> Part:
    """Return the autoencoder in the folder ``model.vae``.

    Raises:
        OSError: There is none.
    """
    path = Path(folder).expanduser()
    part = find_image_encoder(path, False) if path.is_dir() else None
    if part is None:
        raise FileNotFoundError(
            f'expected an autoencoder of diffusers in {str(folder)!r}, got '
            f'{"none" if path.is_dir() else "no such folder"}; train one with '
            'tools/train.py configs/teacher/autoencoder_digits.py, or set '
            'model.vae to its folder'
        )
    return part


def load_encoder(part: Part) -> ImageEncoder:
    """Load the frozen encoder half of an autoencoder in float32."""
    source = Source(part, str(part.folder), setting='model.vae')
    source.locate()
    encoder = ImageEncoder(source.model, source.shapes)
    source.load(torch.float32)
    return encoder.eval().requires_grad_(False)


def load_autoencoder(part: Part) -> Any:
    """Load an autoencoder with its decoder."""
    return part.cls.from_pretrained(part.folder, low_cpu_mem_usage=False)


def predict(
    denoiser: Any, noised: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Return the unconditional output of a denoiser at N timesteps."""
    family = find_family(type(denoiser), denoiser.config)
    condition = ClassSignal('none', family)(timesteps, None)
    arguments = family.arguments(noised, family.clock(timesteps), condition)
    return denoiser(**arguments).sample


def build_pipeline(
    denoiser: Any, scheduler: Any, autoencoder: Optional[Any] = None
) -> Any:
    """Return the unconditional pipeline of diffusers for a denoiser.

    Args:
        denoiser: One that passed ``check_latents`` if there is an autoencoder.
        scheduler: A diffusers scheduler.
        autoencoder: The autoencoder of a denoiser of latents.
    """
    from diffusers import DDIMPipeline, DiTPipeline, LDMPipeline, UNet2DModel

    if autoencoder is None:
        return DDIMPipeline(denoiser, scheduler)
    if isinstance(denoiser, UNet2DModel):
        return LDMPipeline(autoencoder, denoiser, scheduler)
    return DiTPipeline(denoiser, autoencoder, scheduler)


def sample_images(
    pipeline: Any, num_images: int, num_steps: int, seed: int
) -> torch.Tensor:
    """Sample N x 3 x H x W images in [0, 1] with a pipeline of this file."""
    arguments: Dict[str, Any] = dict(batch_size=num_images)
    transformer = pipeline.components.get('transformer')
    if transformer is not None:
        null = transformer.config.num_embeds_ada_norm
        arguments = dict(class_labels=[null] * num_images, guidance_scale=1)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        **arguments,
        generator=torch.Generator().manual_seed(seed),
        num_inference_steps=num_steps,
        output_type='np',
    ).images
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def check_latents(denoiser: Any, scheduler: Any, autoencoder: Part) -> None:
    """Refuse parts with which diffusers' pipelines would sample wrongly.

    Raises:
        ValueError: There is no unconditional pipeline for the denoiser, the
            channels differ, the scheduler clips the latents, or the
            autoencoder shifts them.
    """
    name = type(denoiser).__name__
    if name not in ('UNet2DModel', 'DiTTransformer2DModel'):
        raise ValueError(
            "expected model.denoiser.type 'UNet2DModel' or "
            f"'DiTTransformer2DModel' with model.vae, got {name!r}, for which "
            'diffusers has no unconditional pipeline; choose one of them'
        )
    config = autoencoder.config
    names = ('shift_factor', 'latents_mean', 'latents_std')
    shift = {key: config[key] for key in names if config.get(key)}
    if shift:
        raise ValueError(
            'expected an autoencoder with a scaling_factor only in model.vae, '
            f"got {shift}, which diffusers' unconditional pipelines ignore; "
            'choose another one, such as that of Stable Diffusion 1.5'
        )
    channels = config.get('latent_channels', 4)
    if denoiser.config.in_channels != channels:
        raise ValueError(
            f'expected model.denoiser.in_channels {channels}, as the latents '
            f'of model.vae, got {denoiser.config.in_channels}; set in_channels'
            f' and out_channels to {channels}'
        )
    if not isinstance(denoiser.config.sample_size, int):
        raise ValueError(
            'expected model.denoiser.sample_size to be the side of square '
            f'latents, got {denoiser.config.sample_size!r}; set it to the '
            'side of the images over the factor of the autoencoder'
        )
    if scheduler.config.get('clip_sample'):
        raise ValueError(
            'expected model.scheduler.clip_sample=False with model.vae, as '
            'latents have values outside of [-1, 1], got True; set it to False'
        )
