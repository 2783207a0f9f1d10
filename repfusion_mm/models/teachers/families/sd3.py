"""Stable Diffusion 3 and 3.5: joint transformers of image and text."""

from __future__ import annotations

from typing import Any, Dict

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
)
from repfusion_mm.registry import DENOISER_FAMILIES


@DENOISER_FAMILIES.register_module('SD3Transformer2DModel')
class SD3Family(DenoiserFamily):
    """``SD3Transformer2DModel`` (MMDiT, arXiv 2403.03206).

    If the pipeline has no T5, it gives zeros in its place. Its transformer
    attends to all text tokens, padding included.
    """

    flow_matching = True
    #: Those of CLIP and of T5.
    num_tokens = 77 + 256

    @property
    def max_size(self) -> int:
        """Largest side of x_t that the positional embedding covers."""
        return self.config['pos_embed_max_size'] * self.patch_size

    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        return dict(
            hidden_states=x_t,
            timestep=model_timesteps,
            encoder_hidden_states=condition['prompt_embeds'],
            pooled_projections=condition['pooled_prompt_embeds'],
        )

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        width = self.config['joint_attention_dim']
        pooled = self.config['pooled_projection_dim']
        return dict(
            prompt_embeds=torch.zeros(1, num_tokens, width),
            pooled_prompt_embeds=torch.zeros(1, pooled),
        )

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on."""
        embeds, _, pooled, _ = pipeline.encode_prompt(
            prompt,
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            device='cpu',
        )
        return dict(prompt_embeds=embeds, pooled_prompt_embeds=pooled)
