"""U-Nets without text: DDPM, guided-diffusion, unconditional latent U-Nets."""

from __future__ import annotations

from typing import Any, Dict, List

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
    Grid,
)
from repfusion_mm.registry import DENOISER_FAMILIES


@DENOISER_FAMILIES.register_module('UNet2DModel')
class UNet2DFamily(DenoiserFamily):
    """``UNet2DModel``, pixel-space (RGB) or latent.

    DDPM (arXiv 2006.11239), and guided-diffusion (ADM, arXiv 2105.05233).
    """

    needs_latents = False
    component = 'unet'

    @property
    def num_classes(self) -> int:
        """Number of classes that the denoiser is conditioned on."""
        return self.config.get('num_class_embeds') or 0

    def grids(self, size: Grid) -> List[Grid]:
        """Return the grids of all levels."""
        return unet_grids(size, len(self.config['block_out_channels']))

    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        return dict(sample=x_t, timestep=model_timesteps, **condition)


def unet_grids(size: Grid, num_levels: int) -> List[Grid]:
    """Return the grid of each level, half of the one before, rounded up."""
    grids = [size]
    for _ in range(num_levels - 1):
        height, width = grids[-1]
        grids.append((-(-height // 2), -(-width // 2)))
    return grids
