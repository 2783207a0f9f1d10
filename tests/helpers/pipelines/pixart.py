"""PixArt-alpha and PixArt-sigma."""

import torch

from tests.helpers.pipelines.parts import (
    autoencoder,
    load,
    recorded,
    t5_encoder,
    t5_tokenizer,
    to_map,
)

#: Alpha of 1024 pixels is given the size of the image.
VARIANTS = ('Alpha', 'Sigma')
SIDE = 32
OTHER_SIZE = (48, 32)
LAYER = 'transformer_blocks.1'
LAYERS = (
    'pos_embed',
    'transformer_blocks.0',
    'transformer_blocks.1.attn1',
    'transformer_blocks.1.attn2.to_q',
    'transformer_blocks.1.ff',
    'transformer_blocks.2',
)


def save(folder, variant='Alpha'):
    import diffusers

    torch.manual_seed(0)
    is_alpha = variant == 'Alpha'
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=4,
        cross_attention_dim=24,
        sample_size=SIDE // 2,
        caption_channels=32,
        use_additional_conditions=is_alpha,
    ).eval()
    # Zeros before training.
    torch.nn.init.normal_(transformer.caption_projection.linear_2.weight)
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=0.0001, beta_end=0.02
    )
    getattr(diffusers, f'PixArt{variant}Pipeline')(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(32),
        vae=autoencoder(scaling_factor=0.13025),
        transformer=transformer,
        scheduler=scheduler,
    ).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    pipeline = load(folder)
    transformer, vae = pipeline.transformer, pipeline.vae
    scheduler = pipeline.scheduler
    with recorded(transformer, layers) as outputs:
        *_, empty, mask = pipeline.encode_prompt('a cat', device='cpu')
        assert mask.sum() < mask.numel()
        latents = vae.encode(images * 2 - 1).latent_dist.mode()
        latents = vae.config.scaling_factor * latents
        scheduler.set_timesteps(timesteps=[t])
        level = scheduler.timesteps
        noised = scheduler.add_noise(latents, noise, level)
        noised = scheduler.scale_model_input(noised, level[0])
        count, (height, width) = len(images), images.shape[-2:]
        added = dict(resolution=None, aspect_ratio=None)
        if transformer.config.use_additional_conditions:
            size = torch.tensor([[float(height), float(width)]])
            ratio = torch.tensor([[height / width]])
            added = dict(
                resolution=size.repeat(count, 1),
                aspect_ratio=ratio.repeat(count, 1),
            )
        transformer(
            noised,
            encoder_hidden_states=empty.repeat(count, 1, 1),
            encoder_attention_mask=mask.repeat(count, 1),
            timestep=level.expand(count),
            added_cond_kwargs=added,
        )
    height, width = (side // 2 for side in latents.shape[-2:])
    return {
        name: to_map(output, height, width) for name, output in outputs.items()
    }
