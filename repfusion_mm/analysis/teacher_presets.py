"""Architectures of the benchmarks' teachers.

They replace teachers whose weights are not on this disk, for counting and
timing.
"""

from pathlib import Path
from typing import Tuple


def _ddpm(size: int, channels: tuple, attends: tuple) -> dict:
    down = ['AttnDownBlock2D' if a else 'DownBlock2D' for a in attends]
    up = ['AttnUpBlock2D' if a else 'UpBlock2D' for a in attends[::-1]]
    return dict(
        type='UNet2DModel',
        sample_size=size,
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        # One head, as in DDPM (arXiv 2006.11239).
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )


def _adm(size: int, channels: tuple, depth: int, attends: tuple) -> dict:
    down = [
        'AttnDownBlock2D' if a else 'ResnetDownsampleBlock2D' for a in attends
    ]
    up = [
        'AttnUpBlock2D' if a else 'ResnetUpsampleBlock2D'
        for a in attends[::-1]
    ]
    return dict(
        type='UNet2DModel',
        sample_size=size,
        out_channels=6,
        block_out_channels=channels,
        layers_per_block=depth,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        downsample_type='resnet',
        upsample_type='resnet',
        resnet_time_scale_shift='scale_shift',
        attention_head_dim=64,
        attn_norm_num_groups=32,
        num_class_embeds=1000 if size == 64 else None,
    )


#: By the value of ``pretrained`` in the configs.
TEACHER_PRESETS = {
    'google/ddpm-cifar10-32': _ddpm(
        32, (128, 256, 256, 256), (False, True, False, False)
    ),
    'google/ddpm-ema-celebahq-256': _ddpm(
        256, (128, 128, 256, 256, 512, 512), (False,) * 4 + (True, False)
    ),
    'data/teachers/imagenet64': _adm(
        64, (192, 384, 576, 768), 3, (False, True, True, True)
    ),
    'data/teachers/imagenet256-uncond': _adm(
        256, (256, 256, 512, 512, 1024, 1024), 2, (False,) * 3 + (True,) * 3
    ),
}


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
