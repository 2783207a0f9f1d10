"""Variants of Sana."""

import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.families import SanaFamily

SMALL = dict(
    type='SanaTransformer2DModel',
    in_channels=4,
    out_channels=4,
    num_attention_heads=1,
    attention_head_dim=8,
    num_layers=1,
    num_cross_attention_heads=1,
    cross_attention_head_dim=8,
    cross_attention_dim=8,
    caption_channels=8,
    sample_size=8,
)


def test_sana_sprint_is_refused():
    with pytest.raises(ValueError, match=r'Sana-Sprint.*TrigFlow; choose'):
        DiffusersTeacher(
            ['transformer_blocks.0'], config={**SMALL, 'guidance_embeds': True}
        )


def test_timesteps_are_scaled_where_the_config_has_a_scale():
    """That of diffusers 0.32 has none."""
    timesteps = torch.tensor([0, 261, 999])
    scaled = SanaFamily(dict(timestep_scale=0.5)).scale_timesteps(timesteps)
    assert torch.equal(scaled, timesteps / 2)
    assert torch.equal(SanaFamily({}).scale_timesteps(timesteps), timesteps)
