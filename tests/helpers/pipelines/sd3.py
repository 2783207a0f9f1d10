"""Stable Diffusion 3 and 3.5."""

from pathlib import Path

import torch

from tests.helpers.pipelines.parts import (
    autoencoder,
    clip_encoder,
    clip_tokenizer,
    recorded,
    t5_encoder,
    t5_tokenizer,
    to_map,
)

#: 3: without T5, which is optional; 3.5: with a second attention of the image.
VARIANTS = ('3', '3.5')
SIDE = 16
OTHER_SIZE = (16, 24)
LAYER = 'transformer_blocks.1'
LAYERS = (
    'pos_embed',
    'transformer_blocks.0',  # text and image
    'transformer_blocks.0.norm1',  # the image and its modulation
    'transformer_blocks.0.attn',  # image and text
    'transformer_blocks.1',
    'transformer_blocks.1.ff',
    'transformer_blocks.2',  # no text and image
    'transformer_blocks.2.attn',
    'proj_out',
)


def save(folder, variant='3.5'):
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    torch.manual_seed(0)
    is_new = variant == '3.5'
    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 2,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        pos_embed_max_size=6,
        dual_attention_layers=(0, 1) if is_new else (),
        qk_norm='rms_norm' if is_new else None,
    )
    vae = autoencoder(
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    )
    StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae,
        text_encoder=clip_encoder(12, projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(12, projection=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(32) if is_new else None,
        tokenizer_3=t5_tokenizer() if is_new else None,
    ).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    from diffusers import StableDiffusion3Img2ImgPipeline

    names = ('text_encoder_3', 'tokenizer_3')
    absent = {k: None for k in names if not Path(folder, k).exists()}
    pipeline = StableDiffusion3Img2ImgPipeline.from_pretrained(
        folder, low_cpu_mem_usage=False, **absent
    )
    vae, scheduler = pipeline.vae, pipeline.scheduler
    with recorded(pipeline.transformer, layers) as outputs:
        _, empty, _, pooled = pipeline.encode_prompt(
            'a', None, None, num_images_per_prompt=len(images), device='cpu'
        )
        assert empty.shape[1] == 77 + 256
        latents = vae.encode(images * 2 - 1).latent_dist.mode()
        latents = latents - vae.config.shift_factor
        latents = latents * vae.config.scaling_factor
        # A schedule of one step at this level, which is shifted to it.
        shift, sigma = scheduler.config.shift, t / 1000
        scheduler.set_timesteps(sigmas=[sigma / (shift - (shift - 1) * sigma)])
        timesteps, _ = pipeline.get_timesteps(1, 1.0, 'cpu')
        assert (timesteps - t).abs().max() < 1e-3
        levels = timesteps[:1].repeat(len(images))
        noised = scheduler.scale_noise(latents, levels, noise)
        pipeline.transformer(
            hidden_states=noised,
            timestep=levels,
            encoder_hidden_states=empty,
            pooled_projections=pooled,
        )
    height, width = (side // 2 for side in latents.shape[-2:])
    maps = {}
    for name, output in outputs.items():
        if isinstance(output, tuple):
            is_block = name.split('.')[-1].isdigit()
            output = output[1 if is_block else 0]
        maps[name] = to_map(output, height, width)
    return maps
