"""Qwen-Image."""

import torch

from tests.helpers.pipelines.flux import image_maps, scale_noise
from tests.helpers.pipelines.parts import recorded

SIDE = 32
INPUT_SIZE = SIDE
OTHER_SIZE = (48, 32)
LAYER = 'transformer_blocks.1'
LAYERS = (
    'img_in',
    'transformer_blocks.0',  # text and image
    'transformer_blocks.0.img_norm2',
    'transformer_blocks.1.attn',  # image and text
    'transformer_blocks.1.attn.to_v',
    'transformer_blocks.1.img_mlp.net.0',
    'transformer_blocks.1',
)


def save(folder):
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2Tokenizer,
    )

    torch.manual_seed(0)
    special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
    tokens = [*special, *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer({t: i for i, t in enumerate(tokens)}, [])
    tokenizer.add_special_tokens(dict(additional_special_tokens=special[1:]))
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokens),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            rope_parameters=dict(
                rope_type='default', mrope_section=[2, 2, 4], rope_theta=1e4
            ),
        ),
        vision_config=dict(
            depth=1,
            hidden_size=16,
            intermediate_size=16,
            num_heads=2,
            out_hidden_size=32,
        ),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[-0.5, 0.1, 0.4, 1.5],
        latents_std=[2.8, 1.4, 2.3, 0.5],
    ).eval()
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
    ).eval()
    QwenImagePipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae,
        Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer,
        transformer,
    ).save_pretrained(folder)


def reference(folder, images, t, noise, layers):
    from diffusers import QwenImageImg2ImgPipeline

    pipeline = QwenImageImg2ImgPipeline.from_pretrained(
        folder, low_cpu_mem_usage=False
    )
    with recorded(pipeline.transformer, layers) as outputs:
        embeds, mask = pipeline.encode_prompt('')
        vae = pipeline.vae
        latents = vae.encode((images * 2 - 1).unsqueeze(2)).latent_dist.mode()
        mean, std = (
            torch.tensor(value).view(1, -1, 1, 1, 1)
            for value in (vae.config.latents_mean, vae.config.latents_std)
        )
        latents = ((latents - mean) / std).transpose(1, 2)
        noise = noise.unsqueeze(1)
        noised = scale_noise(pipeline.scheduler, latents, noise, t)
        count, _, channels, height, width = noised.shape
        pipeline.transformer(
            hidden_states=pipeline._pack_latents(
                noised, count, channels, height, width
            ),
            timestep=torch.tensor([float(t)]).expand(count) / 1000,
            encoder_hidden_states_mask=mask,
            encoder_hidden_states=embeds.expand(count, -1, -1),
            img_shapes=[[(1, height // 2, width // 2)]] * count,
        )
    return image_maps(outputs, height // 2, width // 2, embeds.shape[1])
