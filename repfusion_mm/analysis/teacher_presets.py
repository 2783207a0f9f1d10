"""Architectures of the benchmarks' teachers.

They replace teachers whose weights are not on this disk, for counting and
timing.
"""

from pathlib import Path
from typing import Tuple

#: What denoisers of DDPM (arXiv 2006.11239) have in common. They have one
#: attention head.
DDPM = dict(
    layers_per_block=2, attention_head_dim=None, downsample_padding=0,
    flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
)  # fmt: skip
#: What denoisers of guided-diffusion (arXiv 2105.05233) have in common.
ADM = dict(
    out_channels=6, downsample_type='resnet', upsample_type='resnet',
    resnet_time_scale_shift='scale_shift', attention_head_dim=64,
    attn_norm_num_groups=32,
)  # fmt: skip


def _unet(
    sample_size: int, channels: tuple, attends: str, common: dict, **arguments
) -> dict:
    """Return a config; ``attends`` has an 'a' for each level that attends."""
    plain = 'Resnet{}sampleBlock2D' if common is ADM else '{}Block2D'
    down, up = plain.format('Down'), plain.format('Up')
    return dict(
        type='UNet2DModel',
        sample_size=sample_size,
        block_out_channels=channels,
        down_block_types=tuple(
            'AttnDownBlock2D' if a == 'a' else down for a in attends
        ),
        up_block_types=tuple(
            'AttnUpBlock2D' if a == 'a' else up for a in attends[::-1]
        ),
        **common,
        **arguments,
    )


#: By the value of ``pretrained`` in the configs.
TEACHER_PRESETS = {
    'google/ddpm-cifar10-32': _unet(32, (128, 256, 256, 256), '-a--', DDPM),
    'google/ddpm-ema-celebahq-256': _unet(
        256, (128, 128, 256, 256, 512, 512), '----a-', DDPM
    ),
    'data/teachers/imagenet64': _unet(
        64, (192, 384, 576, 768), '-aaa', ADM,
        layers_per_block=3, num_class_embeds=1000,
    ),
    'data/teachers/imagenet256-uncond': _unet(
        256, (256, 256, 512, 512, 1024, 1024), '---aaa', ADM,
        layers_per_block=2,
    ),
}  # fmt: skip


def resolve_teacher(teacher: dict) -> Tuple[dict, bool]:
    """Return a teacher's config that can be built without a network.

    Args:
        teacher: ``model.teacher`` of a config.

    Returns:
        A copy of the config if its weights are on this disk, otherwise the
        config of the preset with random weights; and whether the weights are
        random.

    Raises:
        ValueError: The teacher is neither a preset nor on this disk.
    """
    teacher = dict(teacher)
    name = teacher.get('pretrained')
    if name is None:
        return teacher, 'config' in teacher
    if Path(name).is_dir() or _is_cached(name):
        return teacher, False
    if name not in TEACHER_PRESETS:
        raise ValueError(
            f'expected a teacher among {list(TEACHER_PRESETS)} or on this '
            f'disk, got {name!r}; correct model.teacher.pretrained'
        )
    del teacher['pretrained']
    return dict(teacher, config=TEACHER_PRESETS[name]), True


def _is_cached(name: str) -> bool:
    """Return whether the Hugging Face cache holds a model."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, 'config.json'), str)
    except HFValidationError:
        return False
