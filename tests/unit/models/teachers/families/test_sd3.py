"""Sizes of Stable Diffusion 3."""

import pytest

from repfusion_mm.models import DiffusersTeacher
from tests.helpers.toy import AUTOENCODER

SMALL = dict(
    type='SD3Transformer2DModel',
    sample_size=8,
    in_channels=4,
    out_channels=4,
    num_layers=1,
    attention_head_dim=8,
    num_attention_heads=1,
    joint_attention_dim=8,
    caption_projection_dim=8,
    pooled_projection_dim=8,
    pos_embed_max_size=6,
)


def build(size):
    return DiffusersTeacher(
        ['transformer_blocks.0'],
        config=SMALL,
        vae=AUTOENCODER,
        input_size=size,
    )


def test_sides_up_to_the_positional_embedding():
    """6 patches of 2 x 2 latents, each of 2 x 2 pixels."""
    teacher = build((16, 24))
    assert teacher.feature_shapes == {'transformer_blocks.0': (8, 4, 6)}
    with pytest.raises(
        ValueError, match=r'input_size of at most 24.*got 28 x'
    ):
        build((28, 16))
    with pytest.raises(ValueError, match=r'a multiple of 4.*got 18 x 18'):
        build(18)
