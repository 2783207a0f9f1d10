"""Early exit after the last layer, with and without torch.compile."""

import copy

import diffusers
import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.features.feature_extractor import (
    FeatureExtractor,
)
from repfusion_mm.models.teachers.features.layers import (
    find_used,
    release_unused,
    survey_layers,
)
from tests.helpers.toy import LAYER, save_teacher

IMAGES = torch.linspace(0, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16)
TIMESTEPS = torch.tensor([0, 10, 500, 999])


@torch.no_grad()
def test_every_convolution_can_be_the_last_layer(tmp_path):
    """Exiting inside a block works although its later modules are released."""
    folder = save_teacher(tmp_path / 'ddpm', layers_per_block=2)
    denoiser = diffusers.UNet2DModel.from_pretrained(folder).eval()
    layers = [
        name
        for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    survey = survey_layers(
        denoiser, lambda: denoiser(IMAGES, TIMESTEPS), lambda output: None
    )
    assert len(layers) > 20
    for layer in layers:
        module = copy.deepcopy(denoiser)
        extractor = FeatureExtractor(module, [layer])
        release_unused(module, find_used([layer], survey))
        feats = extractor(IMAGES, TIMESTEPS)
        assert torch.equal(feats[layer], survey[layer].output), layer


@pytest.mark.compile
@pytest.mark.slow
def test_the_compiled_pass_exits_early_and_returns_the_same(
    teacher_folder, fresh_compiler, monkeypatch, log
):
    layers = ['down_blocks.1.resnets.0.conv1', LAYER]
    plain, compiled = (
        DiffusersTeacher(
            layers, teacher_folder, dtype='float32', compile=compile
        )
        for compile in (False, True)
    )
    expected = plain(IMAGES, TIMESTEPS)
    monkeypatch.setattr('torch._dynamo.config.error_on_recompile', True)
    for _ in range(2):
        feats = compiled(IMAGES, TIMESTEPS)
        for layer in layers:
            torch.testing.assert_close(feats[layer], expected[layer])
    assert 'torch.compile failed' not in log.text
    assert compiled.feature_extractor.run.compiled is not None


@pytest.mark.compile
@pytest.mark.slow
def test_without_a_compiler_the_pass_runs_uncompiled(
    teacher_folder, no_compiler, log
):
    plain, compiled = (
        DiffusersTeacher([LAYER], teacher_folder, compile=compile)
        for compile in (False, True)
    )
    expected = plain(IMAGES, TIMESTEPS)[LAYER]
    for _ in range(2):
        assert torch.equal(compiled(IMAGES, TIMESTEPS)[LAYER], expected)
    assert log.text.count('torch.compile failed') == 1


@pytest.mark.compile
@pytest.mark.slow
def test_invalid_input_raises_the_modules_own_error_when_compiled(
    teacher_folder,
):
    teacher = DiffusersTeacher([LAYER], teacher_folder, compile=True)
    with pytest.raises(RuntimeError, match='channels'):
        teacher(IMAGES[:, :2], TIMESTEPS)
