"""Presets have the published sizes, and stand for missing weights only."""

import diffusers
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from repfusion_mm.analysis.teacher_presets import (
    TEACHER_PRESETS,
    resolve_teacher,
)
from tests.helpers.launcher import ROOT

#: Millions of parameters. DDPM (arXiv 2006.11239, app. B) has 35.7 and 114;
#: the converter's tests count the two ADMs on their original architecture.
SIZES = {
    'google/ddpm-cifar10-32': 35.7,
    'google/ddpm-ema-celebahq-256': 113.7,
    'data/teachers/imagenet64': 295.9,
    'data/teachers/imagenet256-uncond': 552.8,
}


@pytest.mark.parametrize('name', TEACHER_PRESETS)
def test_presets_have_the_published_size(name):
    config = dict(TEACHER_PRESETS[name])
    with torch.device('meta'):
        denoiser = getattr(diffusers, config.pop('type'))(**config)
    millions = sum(p.numel() for p in denoiser.parameters()) / 1e6
    assert millions == pytest.approx(SIZES[name], abs=0.1)


def test_weights_on_disk_are_preferred(tmp_path):
    local = dict(type='DiffusersTeacher', pretrained=str(tmp_path))
    assert resolve_teacher(local) == (local, False)
    random = dict(type='DiffusersTeacher', config=dict(type='UNet2DModel'))
    assert resolve_teacher(random) == (random, True)


def test_a_preset_replaces_missing_weights(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    name = 'data/teachers/imagenet64'
    teacher = dict(layers=['mid_block'], pretrained=name)
    resolved, is_random = resolve_teacher(teacher)
    assert is_random
    assert resolved == dict(layers=['mid_block'], config=TEACHER_PRESETS[name])
    with pytest.raises(ValueError, match="on this disk, got 'nowhere'"):
        resolve_teacher(dict(pretrained='nowhere'))


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
