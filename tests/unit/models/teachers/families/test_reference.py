"""Features against hooks on the components of diffusers' own pipelines.

A pipeline is a module of ``tests.helpers.pipelines`` with

- ``SIDE``: the side in pixels of its images;
- ``INPUT_SIZE``, if no config has it;
- ``LAYER``: the layer for distillations;
- ``LAYERS``: layers of all kinds;
- ``save(folder)``: writes it with random weights;
- ``reference(folder, images, t, noise, layers)``: the maps of the layers by
  diffusers' own code;
- ``OTHER_SIZE``, if the denoiser takes images that are not square: height
  and width;
- ``VARIANTS``, if there are several: values of the second argument of
  ``save``.
"""

import importlib

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.features import truncation
from tests.helpers.launcher import ROOT

FOLDER = ROOT / 'tests/helpers/pipelines'
MODULES = sorted({path.stem for path in FOLDER.glob('*.py')} - {'parts'})
#: One U-Net, one transformer, and one of flow matching with two streams.
FAST = ('sd', 'dit', 'sd3')
TIMESTEPS = (0, 261, 999)


def pipelines():
    for name in MODULES:
        module = importlib.import_module(f'tests.helpers.pipelines.{name}')
        variants = getattr(module, 'VARIANTS', ('',))
        for variant in variants:
            arguments = (variant,) if variant else ()
            fast = name in FAST and variant == variants[0]
            yield pytest.param(
                module,
                arguments,
                id=f'{name}{variant}',
                marks=() if fast else pytest.mark.slow,
            )


@pytest.fixture
def saved(tmp_path, monkeypatch, module, arguments):
    # Encoded prompts are written into the working directory.
    monkeypatch.chdir(tmp_path)
    module.save(tmp_path / 'pipeline', *arguments)
    return str(tmp_path / 'pipeline')


def build(module, folder, **arguments):
    arguments.setdefault('input_size', getattr(module, 'INPUT_SIZE', None))
    return DiffusersTeacher(
        list(module.LAYERS), folder, dtype='float32', **arguments
    )


def assert_matches_reference(module, folder, teacher, images, t):
    timesteps = torch.full((len(images),), t)
    torch.manual_seed(t)
    ours = teacher(images, timesteps)
    torch.manual_seed(t)
    noise = torch.randn(teacher.encode(images).shape)
    theirs = module.reference(folder, images, t, noise, module.LAYERS)
    assert list(ours) == list(module.LAYERS)
    for name, feat in ours.items():
        expected = theirs[name]
        assert feat.shape == expected.shape, name
        assert feat.shape[1:] == teacher.feature_shapes[name]
        error = (feat - expected).norm() / expected.norm()
        assert error < 1e-5, (name, float(error))


@pytest.mark.parametrize(('module', 'arguments'), pipelines())
def test_a_teacher_is_built_by_one_pass_without_weights(
    module, saved, monkeypatch
):
    survey = truncation.survey_denoiser.__wrapped__  # see conftest.py
    monkeypatch.setattr(truncation, 'survey_denoiser', survey)
    passes = []

    def record(network, _inputs):
        device = next(network.parameters(), torch.empty(0)).device.type
        passes.append((type(network), device))

    with register_module_forward_pre_hook(record):
        denoiser = build(module, saved).denoiser
    devices = [device for kind, device in passes if kind is type(denoiser)]
    assert devices == ['meta']


@pytest.mark.parametrize(('module', 'arguments'), pipelines())
def test_features_are_those_of_the_pipeline(module, saved):
    teacher = build(module, saved)
    images = torch.rand(2, 3, module.SIDE, module.SIDE)
    for t in TIMESTEPS:
        assert_matches_reference(module, saved, teacher, images, t)

    # Cached latents, which are rounded to float16.
    latents = teacher.encode_latents(images).mean.half().float()
    timesteps = torch.tensor([3, 700])
    torch.manual_seed(1)
    cached = teacher.extract(latents, timesteps)
    torch.manual_seed(1)
    for name, feat in teacher(images, timesteps).items():
        assert (cached[name] - feat).norm() / feat.norm() < 2e-3, name

    full = build(module, saved, early_stop=False)
    feats = []
    for each in (teacher, full):
        torch.manual_seed(1)
        feats.append(each(images, torch.tensor([3, 700])))
    for name in module.LAYERS:
        assert torch.equal(feats[0][name], feats[1][name]), name

    if hasattr(module, 'OTHER_SIZE'):
        size = module.OTHER_SIZE
        teacher = build(module, saved, input_size=size)
        assert_matches_reference(
            module, saved, teacher, torch.rand(2, 3, *size), 261
        )
