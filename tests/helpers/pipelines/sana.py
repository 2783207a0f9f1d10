"""Sana, whose text is Gemma-2's."""

import torch

from tests.helpers.pipelines.parts import recorded, to_map

SIDE = 32
OTHER_SIZE = (32, 48)
LAYER = 'transformer_blocks.1'
LAYERS = (
    'patch_embed',
    'transformer_blocks.0.attn1',
    'transformer_blocks.0.attn2',
    'transformer_blocks.0.ff',  # a map
    'transformer_blocks.1',
    'transformer_blocks.2.norm2',
    'proj_out',
)


def save(folder):
    from diffusers import (
        DPMSolverMultistepScheduler,
        SanaPipeline,
        SanaTransformer2DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=4,
        num_layers=3,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=16,
        sample_size=8,
        timestep_scale=0.5,
    )
    text_encoder = Gemma2Model(
        Gemma2Config(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
        )
    )
    vae, tokenizer = autoencoder_dc(), gemma_tokenizer()
    scheduler = DPMSolverMultistepScheduler(
        flow_shift=3.0, prediction_type='flow_prediction', use_flow_sigmas=True
    )
    SanaPipeline(
        tokenizer, text_encoder, vae, transformer, scheduler
    ).save_pretrained(folder)


def autoencoder_dc():
    """Return an autoencoder of 4 channels and factor 4."""
    from diffusers import AutoencoderDC

    parts = {
        'block_out_channels': (8, 8, 8),
        'layers_per_block': (1, 1, 1),
        'block_types': ('ResBlock', 'ResBlock', 'EfficientViTBlock'),
        'qkv_multiscales': ((), (), (5,)),
    }
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        scaling_factor=0.41407,
        **{f'encoder_{name}': value for name, value in parts.items()},
        **{f'decoder_{name}': value for name, value in parts.items()},
    ).eval()


def gemma_tokenizer():
    """Return a tokenizer of single letters in the format of Gemma's."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizer

    pieces = ('<pad>', '<eos>', '<bos>', '<unk>', '<mask>', 'a', 'b', '▁')
    tokenizer = GemmaTokenizer({piece: i for i, piece in enumerate(pieces)})
    # As in the real one, each text starts with <bos>.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single='<bos> $A',
        pair='<bos> $A <bos> $B',
        special_tokens=[('<bos>', 2)],
    )
    return tokenizer


def reference(folder, images, t, noise, layers):
    from diffusers import SanaPipeline

    pipeline = SanaPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    transformer, scheduler = pipeline.transformer, pipeline.scheduler
    with recorded(transformer, layers) as outputs:
        _, _, empty, mask = pipeline.encode_prompt(
            'ab', num_images_per_prompt=len(images), device='cpu'
        )
        assert empty.shape[1] == mask.shape[1] == 300
        assert mask.sum() == len(images)
        # As SanaSprintImg2ImgPipeline; Sana has no such pipeline.
        latents = pipeline.vae.encode(images * 2 - 1).latent
        latents = pipeline.vae.config.scaling_factor * latents
        # A schedule of one step at this level.
        scheduler.set_timesteps(1)
        scheduler.timesteps = torch.tensor([t])
        scheduler.sigmas = torch.tensor([t / 1000, 0])
        levels = scheduler.timesteps.repeat(len(images))
        noised = scheduler.add_noise(latents, noise, levels)
        transformer(
            noised,
            encoder_hidden_states=empty,
            encoder_attention_mask=mask,
            timestep=levels * transformer.config.timestep_scale,
        )
    return {
        name: value if value.dim() == 4 else to_map(value, *latents.shape[-2:])
        for name, value in outputs.items()
    }
