"""DiT."""

import torch

from tests.helpers.pipelines.parts import autoencoder, load, recorded, to_map

SIDE = 32
LAYER = 'transformer_blocks.1'
LAYERS = (
    'pos_embed',
    'pos_embed.proj',
    'transformer_blocks.0',
    'transformer_blocks.1.attn1',
    'transformer_blocks.1.ff.net.0',
    'transformer_blocks.2',
)


def save(folder):
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=4,
        sample_size=SIDE // 2,
        num_embeds_ada_norm=1000,
    ).eval()
    scheduler = DDIMScheduler(
        beta_start=0.0001, beta_end=0.02, clip_sample=False
    )
    DiTPipeline(transformer, autoencoder(), scheduler).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    pipeline = load(folder)
    with recorded(pipeline.transformer, layers) as outputs:
        vae = pipeline.vae
        latents = vae.encode(images * 2 - 1).latent_dist.mode()
        latents = vae.config.scaling_factor * latents
        timesteps = torch.tensor([t]).expand(len(images))
        noised = pipeline.scheduler.add_noise(latents, noise, timesteps)
        noised = pipeline.scheduler.scale_model_input(noised, t)
        null = torch.tensor([1000] * len(images))
        pipeline.transformer(noised, timestep=timesteps, class_labels=null)
    height, width = (side // 2 for side in latents.shape[-2:])
    return {
        name: output if output.dim() == 4 else to_map(output, height, width)
        for name, output in outputs.items()
    }
