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

    def arguments(
        self, noised: torch.Tensor, clock: torch.Tensor, condition: Condition
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        added: Dict[str, Any] = dict(resolution=None, aspect_ratio=None)
        is_given_size = self.config['use_additional_conditions']
        if is_given_size is None:  # as in the denoiser
            is_given_size = self.config['sample_size'] == 128
        if is_given_size:
            height, width = noised.shape[-2:]
            count = len(noised)
            resolution = noised.new_empty(count, 2, dtype=torch.float32)
            resolution[:, 0] = height * self.latent_factor
            resolution[:, 1] = width * self.latent_factor
            ratio = resolution[:, :1] / resolution[:, 1:]
            added = dict(resolution=resolution, aspect_ratio=ratio)
        return dict(
            hidden_states=noised,
            timestep=clock,
            encoder_hidden_states=condition['prompt_embeds'],
            added_cond_kwargs=added,
        )

    def blank_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        width = self.config['caption_channels']
        return dict(
            prompt_embeds=torch.zeros(
                1, num_tokens, width or self.config['cross_attention_dim']
            )
        )

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on.

        Tokens that its mask excludes are left out, which is the same.
        """
        embeds, mask, *_ = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, device='cpu'
        )
        return dict(prompt_embeds=embeds[:, mask[0].bool()])
