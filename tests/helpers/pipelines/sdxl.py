"""SDXL: unconditional as zeros, and as the encoded empty text."""

import torch

from tests.helpers.pipelines.parts import (
    autoencoder,
    clip_encoder,
    clip_tokenizer,
    load,
    recorded,
)
from tests.helpers.pipelines.sd import unet_maps

VARIANTS = ('Zeros', 'Encoded')
SIDE = 32
OTHER_SIZE = (48, 32)
LAYER = 'up_blocks.0'
LAYERS = (
    'down_blocks.1',
    'down_blocks.1.attentions.0.transformer_blocks.1',
    'mid_block',
    'up_blocks.0',
    'up_blocks.0.attentions.0.transformer_blocks.1',
)


def save(folder, variant='Zeros'):
    from diffusers import (
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type='text_time',
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
        cross_attention_dim=16 + 32,
        norm_num_groups=8,
    ).eval()
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        timestep_spacing='leading',
        steps_offset=1,
    )
    StableDiffusionXLPipeline(
        autoencoder(scaling_factor=0.13025, force_upcast=True),
        clip_encoder(16),
        clip_encoder(32, projection=True),
        clip_tokenizer(),
        clip_tokenizer(),
        unet,
        scheduler,
        force_zeros_for_empty_prompt=variant == 'Zeros',
        add_watermarker=False,
    ).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    pipeline = load(folder)
    unet, vae, scheduler = pipeline.unet, pipeline.vae, pipeline.scheduler
    with recorded(unet, layers) as outputs:
        _, empty, _, pooled = pipeline.encode_prompt('a cat', device='cpu')
        latents = vae.encode(images * 2 - 1).latent_dist.mode()
        latents = vae.config.scaling_factor * latents
        scheduler.set_timesteps(timesteps=[t])
        level = scheduler.timesteps
        noised = scheduler.add_noise(latents, noise, level)
        noised = scheduler.scale_model_input(noised, level[0])
        size = tuple(images.shape[-2:])
        time_ids = pipeline._get_add_time_ids(
            size, (0, 0), size, torch.float32, 32
        )
        unet(
            noised,
            level[0],
            encoder_hidden_states=empty.repeat(len(images), 1, 1),
            added_cond_kwargs=dict(
                text_embeds=pooled.repeat(len(images), 1),
                time_ids=time_ids.repeat(len(images), 1),
            ),
        )
    return unet_maps(outputs, *latents.shape[-2:])
