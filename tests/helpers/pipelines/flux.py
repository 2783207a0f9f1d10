"""FLUX.1 dev and schnell."""

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

VARIANTS = ('dev', 'schnell')
SIDE = 32
INPUT_SIZE = SIDE
OTHER_SIZE = (48, 32)
LAYER = 'single_transformer_blocks.0'
LAYERS = (
    'x_embedder',
    'transformer_blocks.0',  # text and image
    'transformer_blocks.1.attn',  # image and text
    'transformer_blocks.1.attn.to_q',
    'transformer_blocks.1.ff.net.0',
    'transformer_blocks.1.norm1',  # a map and modulations
    'single_transformer_blocks.0.norm',  # text before image
    'single_transformer_blocks.0.attn.to_v',
    'single_transformer_blocks.0.proj_mlp',
    'single_transformer_blocks.0',  # text and image
)


def save(folder, variant='dev'):
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=variant == 'dev',
        axes_dims_rope=(4, 4, 8),
    ).eval()
    vae = autoencoder(
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    FluxPipeline(
        FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=variant == 'dev'
        ),
        vae,
        clip_encoder(16),
        clip_tokenizer(),
        t5_encoder(32),
        t5_tokenizer(512),
        transformer,
    ).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    from diffusers import FluxImg2ImgPipeline

    pipeline = FluxImg2ImgPipeline.from_pretrained(
        folder, low_cpu_mem_usage=False
    )
    with recorded(pipeline.transformer, layers) as outputs:
        embeds, pooled, text_ids = pipeline.encode_prompt('', None)
        vae = pipeline.vae
        latents = vae.encode(images * 2 - 1).latent_dist.mode()
        latents = (
            latents - vae.config.shift_factor
        ) * vae.config.scaling_factor
        noised = scale_noise(pipeline.scheduler, latents, noise, t)
        count, channels, height, width = noised.shape
        image_ids = pipeline._prepare_latent_image_ids(
            count, height // 2, width // 2, 'cpu', torch.float32
        )
        guidance = None
        if pipeline.transformer.config.guidance_embeds:
            guidance = torch.full([1], 3.5).expand(count)
        pipeline.transformer(
            hidden_states=pipeline._pack_latents(
                noised, count, channels, height, width
            ),
            timestep=torch.tensor([float(t)]).expand(count) / 1000,
            guidance=guidance,
            pooled_projections=pooled.expand(count, -1),
            encoder_hidden_states=embeds.expand(count, -1, -1),
            txt_ids=text_ids,
            img_ids=image_ids,
        )
    return image_maps(outputs, height // 2, width // 2, embeds.shape[1])


def scale_noise(scheduler, latents, noise, t):
    """Return x_t by the scheduler, whose inference visits only level t."""
    scheduler.timesteps = torch.tensor([float(t)])
    scheduler.sigmas = torch.tensor([t / 1000, 0.0])
    return scheduler.scale_noise(latents, scheduler.timesteps, noise)


def image_maps(outputs, height, width, num_text):
    """Return the maps of tensors and tuples of tokens, text before image."""
    maps = {}
    for name, output in outputs.items():
        if isinstance(output, tuple) and name.endswith(('norm', 'norm1')):
            output = output[0]
        elif isinstance(output, tuple):
            # The attention returns the image first, a block the text.
            output = output[0 if name.endswith('attn') else 1]
        if output.shape[1] != height * width:
            assert output.shape[1] == num_text + height * width
            output = output[:, num_text:]
        maps[name] = to_map(output, height, width)
    return maps
