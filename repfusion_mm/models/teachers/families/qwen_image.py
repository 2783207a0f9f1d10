"""Qwen-Image: a transformer of packed latents."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from typing import Any, Dict, Mapping

import torch
from mmengine.utils import digit_version

from repfusion_mm.models.teachers.families.base import Condition
from repfusion_mm.models.teachers.families.flux import PackedFamily
from repfusion_mm.registry import DENOISER_FAMILIES

#: Settings of variants that are also given an image, or a guidance scale.
UNSUPPORTED = (
    'guidance_embeds',
    'use_additional_t_cond',
    'use_layer3d_rope',
    'zero_cond_t',
)


@lru_cache(maxsize=None)
def needs_lengths() -> bool:
    """Return whether the denoiser must be given the number of text tokens."""
    version = digit_version(metadata.version('diffusers'))
    return version < digit_version('0.37')


@DENOISER_FAMILIES.register_module('QwenImageTransformer2DModel')
class QwenImageFamily(PackedFamily):
    """``QwenImageTransformer2DModel`` (arXiv 2508.02324)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        got = [name for name in UNSUPPORTED if config.get(name)]
        if got:
            raise ValueError(
                'expected a QwenImageTransformer2DModel that is conditioned '
                f'on a text only, such as Qwen/Qwen-Image, got one with {got}'
                '; choose another teacher'
            )

    def forward_kwargs(
        self,
        x_t: torch.Tensor,
        model_timesteps: torch.Tensor,
        condition: Condition,
    ) -> Dict[str, Any]:
        """Return the keyword arguments of the denoiser's forward."""
        height, width = x_t.shape[-2:]
        lengths: Dict[str, Any] = {}
        if needs_lengths():
            count = self.num_text_tokens(condition)
            lengths['txt_seq_lens'] = [count] * len(x_t)
        # No mask: the embedding of one text has no padding.
        return dict(
            lengths,
            hidden_states=self.pack(x_t),
            timestep=model_timesteps,
            encoder_hidden_states=condition['prompt_embeds'],
            img_shapes=[[(1, height // 2, width // 2)]] * len(x_t),
        )

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        width = self.config['joint_attention_dim']
        return dict(prompt_embeds=torch.zeros(1, num_tokens, width))

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on."""
        embeds, _ = pipeline.encode_prompt(prompt, device='cpu')
        return dict(prompt_embeds=embeds)
