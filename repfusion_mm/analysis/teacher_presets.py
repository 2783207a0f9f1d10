"""Architectures of published teachers, to count and time without weights."""

from pathlib import Path
from typing import Tuple

from repfusion_mm.models.teachers.guided_diffusion import unet_config
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
#: By the value of ``pretrained`` in the configs.
TEACHER_PRESETS = {
    'google/ddpm-cifar10-32': dict(
        DDPM, sample_size=32, block_out_channels=(128, 256, 256, 256),
        down_block_types=('DownBlock2D', 'AttnDownBlock2D',
                          'DownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'UpBlock2D',
                        'AttnUpBlock2D', 'UpBlock2D'),
    ),
    'google/ddpm-ema-celebahq-256': dict(
        DDPM, sample_size=256,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=(*4 * ['DownBlock2D'], 'AttnDownBlock2D',
                          'DownBlock2D'),
        up_block_types=('UpBlock2D', 'AttnUpBlock2D', *4 * ['UpBlock2D']),
    ),
    'data/teachers/imagenet64': unet_config(
        64, (192, 384, 576, 768), (0, 1, 1, 1), **ADM,
        layers_per_block=3, num_class_embeds=1000,
    ),
    'data/teachers/imagenet256-uncond': unet_config(
        256, (256, 256, 512, 512, 1024, 1024), (0, 0, 0, 1, 1, 1), **ADM,
        layers_per_block=2, num_class_embeds=None,
    ),
}  # fmt: skip


def resolve_teacher(teacher: dict) -> Tuple[dict, bool]:
    """Return a teacher's config that can be built without a network.

    It is a copy if the weights are on this disk, and otherwise has random
    weights of the preset. The second value is whether weights are random.

    Raises:
        ValueError: The teacher is neither a preset nor on this disk.
    """
    teacher = dict(teacher)
    if is_type(teacher, TimmTeacher, MODELS):
        return dict(teacher, pretrained=False), True  # timm has all presets
    name = teacher.get('pretrained')
    if name is None:
        return teacher, 'config' in teacher
    if Path(name).expanduser().is_dir() or _is_cached(name):
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
        files = [
            try_to_load_from_cache(name, file)
            for file in ('config.json', 'unet/config.json')
        ]
        return any(isinstance(file, str) for file in files)
    except HFValidationError:
        return False
