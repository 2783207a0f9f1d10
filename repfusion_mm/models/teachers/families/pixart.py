"""PixArt: diffusion transformers that attend to a text."""

from __future__ import annotations

from typing import Any, Dict

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
)
from repfusion_mm.registry import DENOISER_FAMILIES


@DENOISER_FAMILIES.register_module('PixArtTransformer2DModel')
class PixArtFamily(DenoiserFamily):
    """``PixArtTransformer2DModel``: PixArt-alpha and PixArt-sigma.

    arXiv 2310.00426 and 2403.04692. Models of 1024 pixels may also be given
    the resolution of the image and its aspect ratio, height over width.
    """

    num_tokens = 120
    #: PixArt-alpha: its embedding of the empty prompt, from the training.
    unused_weights = ('caption_projection.y_embedding',)

    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        added: Dict[str, Any] = dict(resolution=None, aspect_ratio=None)
        is_given_size = self.config['use_additional_conditions']
        if is_given_size is None:  # as in the denoiser
            is_given_size = self.config['sample_size'] == 128
        if is_given_size:
            height, width = x_t.shape[-2:]
            count = len(x_t)
            resolution = x_t.new_empty(count, 2, dtype=torch.float32)
            resolution[:, 0] = height * self.latent_factor
            resolution[:, 1] = width * self.latent_factor
            ratio = resolution[:, :1] / resolution[:, 1:]
            added = dict(resolution=resolution, aspect_ratio=ratio)
        return dict(
            hidden_states=x_t,
            timestep=model_timesteps,
            encoder_hidden_states=condition['prompt_embeds'],
            added_cond_kwargs=added,
        )

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        width = self.config['caption_channels']
        return dict(
            prompt_embeds=torch.zeros(
                1, num_tokens, width or self.config['cross_attention_dim']
            )
        )

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on.

        Masked tokens are dropped, which is equivalent to masking them.
        """
        embeds, mask, *_ = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, device='cpu'
        )
        return dict(prompt_embeds=embeds[:, mask[0].bool()])
