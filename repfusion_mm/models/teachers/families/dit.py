"""Diffusion transformers conditioned on classes."""

from __future__ import annotations

from typing import Any, Dict

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
)
from repfusion_mm.registry import DENOISER_FAMILIES


@DENOISER_FAMILIES.register_module('DiTTransformer2DModel')
class DiTFamily(DenoiserFamily):
    """``DiTTransformer2DModel`` (DiT, arXiv 2212.09748)."""

    only_squares = True

    @property
    def num_classes(self) -> int:
        """Number of classes that the denoiser is conditioned on."""
        return self.config['num_embeds_ada_norm']

    @property
    def null_class(self) -> int:  # type: ignore[override]
        """The index of the class that means no class."""
        return self.num_classes

    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        return dict(hidden_states=x_t, timestep=model_timesteps, **condition)
