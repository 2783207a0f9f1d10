"""The autoencoder and the pipeline of a latent diffusion model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch

from repfusion_mm.models.teachers.families import find_family
from repfusion_mm.models.teachers.inputs.conditioning import ClassSignal
from repfusion_mm.models.teachers.inputs.image_encoder import ImageEncoder
from repfusion_mm.models.teachers.loading.denoiser import Source
from repfusion_mm.models.teachers.loading.folders import (
    Part,
    find_image_encoder,
)

#: Denoisers of images and timesteps only, with a latent pipeline.
UNCONDITIONAL = ('UNet2DModel', 'DiTTransformer2DModel')


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
    encoder = ImageEncoder(source.model, source.meta_model)
    source.load(torch.float32)
    return encoder.eval().requires_grad_(False)


def predict(
    denoiser: Any, x_t: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Return the unconditional output of a denoiser at N timesteps."""
    family = find_family(type(denoiser), denoiser.config)
    condition = ClassSignal('none', family)(timesteps, None)
    arguments = family.forward_kwargs(
        x_t, family.scale_timesteps(timesteps), condition
    )
    return denoiser(**arguments).sample


def build_pipeline(denoiser: Any, scheduler: Any, vae: Optional[Part]) -> Any:
    """Return the unconditional pipeline of diffusers for a denoiser.

    Args:
        denoiser: One that passed ``check_latents`` if there is an autoencoder.
        scheduler: A diffusers scheduler.
        vae: The autoencoder of a latent denoiser, whose weights are read.
    """
    from diffusers import DDIMPipeline, DiTPipeline, LDMPipeline, UNet2DModel

    if vae is None:
        return DDIMPipeline(denoiser, scheduler)
    autoencoder = vae.cls.from_pretrained(vae.folder, low_cpu_mem_usage=False)
    autoencoder.to(denoiser.device)
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
