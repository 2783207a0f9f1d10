"""U-Nets conditioned on text: Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

import torch

from repfusion_mm.models.teachers.families.base import (
    Condition,
    DenoiserFamily,
    Grid,
)
from repfusion_mm.models.teachers.families.unet2d import unet_grids
from repfusion_mm.registry import DENOISER_FAMILIES

#: Settings of variants that are conditioned on more than a text.
UNSUPPORTED = (
    'class_embed_type',
    'encoder_hid_dim_type',
    'num_class_embeds',
    'time_cond_proj_dim',
)


@DENOISER_FAMILIES.register_module('UNet2DConditionModel')
class UNet2DConditionFamily(DenoiserFamily):
    """``UNet2DConditionModel``: latent diffusion (LDM, arXiv 2112.10752).

    SDXL (arXiv 2307.01952) is also given a pooled embedding of the text, and
    the size of its images: as if they were neither resized nor cropped.
    """

    component = 'unet'

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        got = {k: config[k] for k in UNSUPPORTED if config.get(k) is not None}
        kind = config.get('addition_embed_type')
        if kind not in (None, 'text_time'):
            got['addition_embed_type'] = kind
        out_channels = config['out_channels']
        if config['in_channels'] != out_channels:  # a mask, image or depth
            got['in_channels'] = f'{config["in_channels"]}, not {out_channels}'
        if kind == 'text_time':
            # The SDXL refiner embeds five values (four sizes and an aesthetic
            # score) instead of six; the rest of the input is the pooled text
            # embedding, as wide as cross_attention_dim.
            added_dim = config['projection_class_embeddings_input_dim']
            pooled_width = added_dim - 5 * config['addition_time_embed_dim']
            if pooled_width == config['cross_attention_dim']:
                got['addition_embed_type'] = 'an aesthetic score (refiner)'
        if got:
            raise ValueError(
                'expected a UNet2DConditionModel that is conditioned on a '
                f'text only, such as Stable Diffusion, got one with {got}; '
                'choose another teacher'
            )

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
        kwargs: Dict[str, Any] = dict(
            sample=x_t,
            timestep=model_timesteps,
            encoder_hidden_states=condition['prompt_embeds'],
        )
        if self._is_xl:
            height, width = x_t.shape[-2:]
            # Original size, corner of the crop, and size, without a copy of
            # values to the device.
            time_ids = x_t.new_zeros(len(x_t), 6, dtype=torch.float32)
            time_ids[:, 0::4] = height * self.latent_factor
            time_ids[:, 1::4] = width * self.latent_factor
            kwargs['added_cond_kwargs'] = dict(
                text_embeds=condition['pooled_prompt_embeds'],
                time_ids=time_ids,
            )
        return kwargs

    def zero_condition(self, num_tokens: int) -> Condition:
        """Return zeros of the shapes of ``encode_prompt``."""
        width = self.config['cross_attention_dim']
        if not isinstance(width, int):  # one for each level
            width = width[0]
        condition = dict(prompt_embeds=torch.zeros(1, num_tokens, width))
        if self._is_xl:
            added_dim = self.config['projection_class_embeddings_input_dim']
            # The rest of the input embeds six sizes.
            time_embed_dim = self.config['addition_time_embed_dim']
            pooled_width = added_dim - 6 * time_embed_dim
            condition['pooled_prompt_embeds'] = torch.zeros(1, pooled_width)
        return condition

    def unconditional(
        self, pipeline: Mapping[str, Any]
    ) -> Optional[Condition]:
        """Return zeros, if the pipeline conditions on zeros."""
        if pipeline.get('force_zeros_for_empty_prompt', self._is_xl):
            return self.zero_condition(self.num_tokens)
        return None

    def encode_prompt(self, pipeline: Any, prompt: str) -> Condition:
        """Return what the pipeline conditions one image on."""
        embeds = pipeline.encode_prompt(
            prompt,
            device='cpu',
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        condition = dict(prompt_embeds=embeds[0])
        if self._is_xl:
            condition['pooled_prompt_embeds'] = embeds[2]
        return condition

    @property
    def _is_xl(self) -> bool:
        return self.config.get('addition_embed_type') == 'text_time'
