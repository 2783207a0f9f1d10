"""Unconditional latent diffusion, with two kinds of encoders."""

import torch

from tests.helpers.pipelines.parts import autoencoder, load, recorded

VARIANTS = ('VQ', 'KL')
SIDE = 32
OTHER_SIZE = (48, 32)
LAYER = 'mid_block'
LAYERS = (
    'down_blocks.0',  # a map and skips
    'down_blocks.1.attentions.0',
    'mid_block',
    'up_blocks.0.resnets.1.conv2',
    'up_blocks.1',
)


def save(folder, variant='VQ'):
    from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

    torch.manual_seed(0)
    encoder = autoencoder()
    if variant == 'VQ':
        encoder = VQModel(
            block_out_channels=(8, 16),
            down_block_types=['DownEncoderBlock2D'] * 2,
            up_block_types=['UpDecoderBlock2D'] * 2,
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.5,
        ).eval()
    unet = UNet2DModel(
        sample_size=SIDE // 2,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()
    scheduler = DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule='scaled_linear',
        clip_sample=False,
    )
    LDMPipeline(encoder, unet, scheduler).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    pipeline = load(folder)
    encoder, scheduler = pipeline.vqvae, pipeline.scheduler
    with recorded(pipeline.unet, layers) as outputs:
        encoded = encoder.encode(images * 2 - 1)
        latents = (
            encoded.latents
            if 'latents' in encoded
            else encoded.latent_dist.mode()
        )
        latents = latents * encoder.config.scaling_factor
        level = torch.tensor([t])
        noised = scheduler.add_noise(latents, noise, level)
        noised = scheduler.scale_model_input(noised, level[0])
        pipeline.unet(noised, level[0])
    return {
        name: output[0] if isinstance(output, tuple) else output
        for name, output in outputs.items()
    }
