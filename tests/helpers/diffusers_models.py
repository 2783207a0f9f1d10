"""Miniature models of diffusers, and inputs to call them with."""

from typing import Any, Dict

import diffusers
import torch

UNET = dict(
    sample_size=8,
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_num_groups=4,
    attention_head_dim=4,
)
HEADS = dict(num_attention_heads=2, attention_head_dim=8)
LATENTS = dict(in_channels=4, out_channels=4, sample_size=8, num_layers=2)
ROPE = dict(HEADS, in_channels=16, num_layers=1, axes_dims_rope=(2, 2, 4))

DENOISERS: Dict[str, Dict[str, Any]] = dict(
    UNet2DModel=dict(
        UNET,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    ),
    UNet2DConditionModel=dict(
        UNET,
        cross_attention_dim=8,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
    ),
    DiTTransformer2DModel=dict(HEADS, **LATENTS, num_embeds_ada_norm=10),
    PixArtTransformer2DModel=dict(
        HEADS, **LATENTS, cross_attention_dim=16, caption_channels=8
    ),
    SanaTransformer2DModel=dict(
        HEADS,
        **LATENTS,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=8,
    ),
    SD3Transformer2DModel=dict(
        HEADS,
        **LATENTS,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
    ),
    FluxTransformer2DModel=dict(
        ROPE,
        num_single_layers=1,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        guidance_embeds=True,
    ),
    QwenImageTransformer2DModel=dict(
        ROPE, out_channels=4, joint_attention_dim=8
    ),
)
IMAGE_ENCODERS: Dict[str, Dict[str, Any]] = dict(
    AutoencoderKL=dict(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
    ),
    AutoencoderTiny=dict(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ),
    AutoencoderDC=dict(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=('ResBlock', 'EfficientViTBlock'),
        decoder_block_types=('ResBlock', 'EfficientViTBlock'),
        encoder_block_out_channels=(8, 16),
        decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        upsample_block_type='interpolate',
        downsample_block_type='stride_conv',
    ),
    AutoencoderKLQwenImage=dict(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ),
)


def build_model(name: str) -> Any:
    """Return a model with random weights."""
    torch.manual_seed(0)
    config = {**DENOISERS, **IMAGE_ENCODERS}[name]
    return getattr(diffusers, name)(**config).eval()


def call_model(model: Any) -> torch.Tensor:
    """Return what a model makes of a fixed input."""
    name = type(model).__name__
    if name in IMAGE_ENCODERS:
        images = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
        encoded = model.encode(
            images[:, :, None] if name == 'AutoencoderKLQwenImage' else images
        )
        latents = getattr(encoded, 'latents', getattr(encoded, 'latent', None))
        return encoded.latent_dist.mode() if latents is None else latents
    text = torch.linspace(-1, 1, 2 * 8).reshape(1, 2, 8)
    steps = torch.tensor([5])
    sample = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
    tokens = sample.reshape(1, 16, 16)
    pooled = dict(pooled_projections=text[:, 0])
    conditions: Dict[str, Dict[str, Any]] = dict(
        UNet2DModel=dict(),
        UNet2DConditionModel=dict(encoder_hidden_states=text),
        DiTTransformer2DModel=dict(class_labels=torch.tensor([3])),
        PixArtTransformer2DModel=dict(
            encoder_hidden_states=text,
            added_cond_kwargs=dict(resolution=None, aspect_ratio=None),
        ),
        SanaTransformer2DModel=dict(encoder_hidden_states=text),
        SD3Transformer2DModel=dict(encoder_hidden_states=text, **pooled),
        FluxTransformer2DModel=dict(
            encoder_hidden_states=text,
            img_ids=torch.cartesian_prod(
                torch.zeros(1), torch.arange(4.0), torch.arange(4.0)
            ),
            txt_ids=torch.zeros(2, 3),
            guidance=torch.tensor([1.0]),
            **pooled,
        ),
        QwenImageTransformer2DModel=dict(
            encoder_hidden_states=text,
            encoder_hidden_states_mask=torch.ones(1, 2),
            img_shapes=[[(1, 4, 4)]],
        ),
    )
    if name == 'UNet2DModel':
        sample = sample[:, :3]
    inputs = tokens if 'axes_dims_rope' in model.config else sample
    return model(inputs, timestep=steps, **conditions[name]).sample
