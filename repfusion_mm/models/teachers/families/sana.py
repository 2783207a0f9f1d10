"""Sana: linear diffusion transformers of heavily compressed latents."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
)
from repfusion_mm.registry import DENOISER_FAMILIES


@DENOISER_FAMILIES.register_module('SanaTransformer2DModel')
class SanaFamily(DenoiserFamily):
    """``SanaTransformer2DModel`` (Sana, arXiv 2410.10629).

    Texts are encoded as the pipeline encodes negative prompts: without its
    instruction that precedes other prompts.
    """

    flow_matching = True
    #: That of the empty prompt.
    num_tokens = 1

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        if config.get('guidance_embeds'):
            raise ValueError(
                'expected a SanaTransformer2DModel without guidance_embeds, '
                'got one of Sana-Sprint, which is distilled for TrigFlow; '
                'choose a teacher such as '
                'Efficient-Large-Model/Sana_600M_512px_diffusers'
            )

    def scale_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Return t times the scale of the denoiser's config."""
        # diffusers 0.32 has no scale.
        return timesteps * self.config.get('timestep_scale', 1.0)

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
        )

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        width = self.config['caption_channels']
        return dict(prompt_embeds=torch.zeros(1, num_tokens, width))

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on."""
        embeds, mask, *_ = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, device='cpu'
        )
        # The denoiser attends to no other tokens.
        return dict(prompt_embeds=embeds[:, mask[0].bool()])
