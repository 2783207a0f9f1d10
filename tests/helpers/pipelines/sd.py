"""Stable Diffusion 1.5 and 2.1."""

import torch

from tests.helpers.pipelines.parts import (
    autoencoder,
    clip_encoder,
    clip_tokenizer,
    load,
    recorded,
    to_map,
)

#: 1.5: PNDM and eps; 2.1: DDIM, v, and more heads at lower levels.
VARIANTS = ('1.5', '2.1')
SIDE = 32
OTHER_SIZE = (48, 32)
LAYER = 'up_blocks.0'
LAYERS = (
    'conv_in',
    'down_blocks.0',  # a map and skips
    'down_blocks.1.attentions.0',  # a tuple of one map
    'down_blocks.1.attentions.0.transformer_blocks.0',  # tokens
    'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_v',
    'mid_block',
    'mid_block.resnets.1.conv2',
    'up_blocks.0',
    'up_blocks.1.resnets.0',
)


def save(folder, variant='1.5', num_levels=2):
    from diffusers import (
        DDIMScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    schedule = dict(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        steps_offset=1,
    )
    is_new = variant == '2.1'
    coarser = num_levels - 1
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(16,) + (32,) * coarser,
        layers_per_block=1,
        down_block_types=['DownBlock2D'] + ['CrossAttnDownBlock2D'] * coarser,
        up_block_types=['CrossAttnUpBlock2D'] * coarser + ['UpBlock2D'],
        cross_attention_dim=32,
        norm_num_groups=8,
        attention_head_dim=(2,) + (4,) * coarser if is_new else 4,
        use_linear_projection=is_new,
    ).eval()
    if is_new:
        scheduler = DDIMScheduler(
            **schedule,
            prediction_type='v_prediction',
            clip_sample=False,
            set_alpha_to_one=False,
        )
    else:
        scheduler = PNDMScheduler(**schedule, skip_prk_steps=True)
    StableDiffusionPipeline(
        autoencoder(
            block_out_channels=(8,) + (16,) * coarser,
            down_block_types=['DownEncoderBlock2D'] * num_levels,
            up_block_types=['UpDecoderBlock2D'] * num_levels,
        ),
        clip_encoder(32),
        clip_tokenizer(),
        unet,
        scheduler,
        None,
        None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    pipeline = load(folder)
    with recorded(pipeline.unet, layers) as outputs:
        _, empty = pipeline.encode_prompt('', 'cpu', 1, True)
        vae = pipeline.vae
        latents = vae.encode(images * 2 - 1).latent_dist.mode()
        latents = vae.config.scaling_factor * latents
        level = torch.tensor([t])
        noised = pipeline.scheduler.add_noise(latents, noise, level)
        noised = pipeline.scheduler.scale_model_input(noised, level)
        pipeline.unet(
            noised,
            level[0],
            encoder_hidden_states=empty.repeat(len(images), 1, 1),
        )
    return unet_maps(outputs, *latents.shape[-2:])


def unet_maps(outputs, height, width):
    """Return the maps in outputs of a U-Net's layers."""
    maps = {}
    for name, output in outputs.items():
        if isinstance(output, tuple):
            output = output[0]
        if output.dim() == 3:  # transformers are at the second level
            output = to_map(output, height // 2, width // 2)
        maps[name] = output
    return maps
