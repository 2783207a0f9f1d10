"""FLUX.1: transformers of packed latents."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
)
from repfusion_mm.registry import DENOISER_FAMILIES

#: The default of diffusers' pipeline. A model that guidance was distilled
#: into (dev) has no unconditional pass: it is always given a scale.
GUIDANCE_SCALE = 3.5


class PackedFamily(DenoiserFamily):
    """Transformers that are given squares of 2 x 2 latent pixels as tokens.

    The channels of a token are those of the four pixels.
    """

    flow_matching = True

    @property
    def patch_size(self) -> int:
        """Side of the squares that become one token, in latent pixels."""
        return 2

    @property
    def in_channels(self) -> int:
        """Number of channels of x_t."""
        return self.config['in_channels'] // 4

    @property
    def sample_size(self) -> Optional[object]:
        """Side of x_t that the pipeline generates; no config names it."""
        return 128

    def scale_timesteps(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Return sigma, N values in [0, 1), as float32."""
        return timesteps / 1000

    def pack(self, x_t: torch.Tensor) -> torch.Tensor:
        """Return N x (h w) x 4 C tokens of N x C x 2 h x 2 w latents."""
        tokens = torch.nn.functional.pixel_unshuffle(x_t, 2)
        return tokens.flatten(2).transpose(1, 2)


@DENOISER_FAMILIES.register_module('FluxTransformer2DModel')
class FluxFamily(PackedFamily):
    """``FluxTransformer2DModel`` (FLUX.1 dev and schnell)."""

    num_tokens = 512

    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        prompt = condition['prompt_embeds']
        height, width = (side // 2 for side in x_t.shape[-2:])
        options: Any = dict(dtype=torch.float32, device=x_t.device)
        rows = torch.arange(height, **options).repeat_interleave(width)
        columns = torch.arange(width, **options).repeat(height)
        guidance = None
        if self.config['guidance_embeds']:
            guidance = torch.full_like(model_timesteps, GUIDANCE_SCALE)
        return dict(
            hidden_states=self.pack(x_t),
            timestep=model_timesteps,
            encoder_hidden_states=prompt,
            pooled_projections=condition['pooled_prompt_embeds'],
            img_ids=torch.stack([torch.zeros_like(rows), rows, columns], 1),
            txt_ids=torch.zeros(prompt.shape[1], 3, **options),
            guidance=guidance,
        )

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        return dict(
            prompt_embeds=torch.zeros(
                1, num_tokens, self.config['joint_attention_dim']
            ),
            pooled_prompt_embeds=torch.zeros(
                1, self.config['pooled_projection_dim']
            ),
        )

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on."""
        embeds, pooled, _ = pipeline.encode_prompt(
            prompt,
            prompt_2=None,
            device='cpu',
            max_sequence_length=self.num_tokens,
        )
        return dict(prompt_embeds=embeds, pooled_prompt_embeds=pooled)
