"""All configs, found on disk."""

import copy
import functools
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from repfusion_mm.analysis.teacher_costs import count_teacher
from repfusion_mm.analysis.teacher_presets import resolve_teacher
from repfusion_mm.engine.settings.names import find_unused

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path
    for pattern in ('configs/**/*.py', 'projects/*/configs/*.py')
    for path in ROOT.glob(pattern)
    if '_base_' not in path.parts
)
DISTILL = [path for path in CONFIGS if path.parent.name == 'distill']
FINETUNE = [p for p in CONFIGS if p.parent.parent.name == 'finetune']
SCRATCH = [path for path in CONFIGS if '-scratch' in path.name]
HOOKS = dict(
    checkpoint='SafeCheckpointHook',
    strict_load='StrictLoadHook',
    exact_resume='ExactResumeHook',
    preemption='PreemptionHook',
    finite_loss='FiniteLossHook',
    env_info='EnvInfoHook',
    unused_settings='UnusedSettingsHook',
)
DISTILL_HOOKS = dict(
    timestep_policy='TimestepPolicyHook', export_student='ExportStudentHook'
)


TEACHERS = sorted((ROOT / 'configs/_base_/teachers').glob('*.py'))


@functools.lru_cache(maxsize=None)
def _read(path):
    return Config.fromfile(path)


def load(path):
    return copy.deepcopy(_read(path))


def name(path):
    return path.stem


def find_bases(path):
    """Return the files of this project that a config inherits from."""
    text = re.search(r'^_base_ = \[(.*?)\]', path.read_text(), re.S | re.M)
    names = re.findall(r"'([^']*)'", text[1]) if text else []
    return [path.parent / n for n in names if n.startswith('.')]


def depth(path):
    return 1 + max(map(depth, find_bases(path)), default=0)


def test_there_are_configs():
    assert {path.parent.name for path in CONFIGS} >= {
        'teacher',
        'distill',
        'mmpretrain',
        'configs',  # of a project
    }
    assert SCRATCH


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_runs_have_the_hooks_and_seeded_batches(path):
    cfg = load(path)
    distills = cfg.model.type == 'repfusion_mm.RepFusion'
    expected = {**HOOKS, **(DISTILL_HOOKS if distills else {})}
    for key, hook in expected.items():
        assert cfg.default_hooks[key].type == f'repfusion_mm.{hook}', key
    loader = cfg.train_dataloader
    switched = any(
        hook.type.endswith('PipelineSwitchHook')
        for hook in cfg.get('custom_hooks', ())
    )
    if path.parent.name == 'mmdet' or switched:
        # ExactResumeHook seeds the batches. PipelineSwitchHook would not find
        # the pipeline of a wrapped dataset, and another batch sampler would
        # mix images of different aspect ratios.
        assert loader.dataset.type == 'CocoDataset'
        return
    assert loader.batch_sampler.type == 'repfusion_mm.SeededBatchSampler'
    assert loader.dataset.type == 'repfusion_mm.SeededConcatDataset'


@pytest.mark.parametrize('path', TEACHERS, ids=name)
def test_teachers_have_a_size_and_a_range_of_timesteps(path):
    cfg = load(path)
    assert {*cfg} == {'teacher', 'teacher_size', 'timesteps'}
    size = cfg.teacher_size
    assert cfg.teacher.get('input_size', size) == size
    is_timm = cfg.teacher.type == 'repfusion_mm.TimmTeacher'
    last = 0 if is_timm else 999
    assert 0 <= cfg.timesteps.low <= cfg.timesteps.high <= last
    assert 'icense' in path.read_text() or 'custom' in path.name


@pytest.mark.parametrize(
    'path',
    [
        p if 'cifar' in p.name else pytest.param(p, marks=pytest.mark.slow)
        for p in TEACHERS
        if p.name != 'ddpm_custom.py'  # that of the user
    ],
    ids=name,
)
def test_teachers_can_be_built_and_their_layer_is_a_map(path):
    """Of the true architecture, on the meta device."""
    cfg = load(path)
    config, _ = resolve_teacher(cfg.teacher)
    costs = count_teacher(config)
    with torch.device('meta'):
        teacher = MODELS.build(config)
    assert teacher.image_size == costs.image_size == cfg.teacher_size
    (layer,) = teacher.layers
    assert teacher.feature_shapes[layer] == costs.shapes[layer]
    assert min(costs.shapes[layer][1:]) >= 4


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_all_names_of_a_config_are_used(path):
    assert [*find_unused(load(path))] == []


@pytest.mark.parametrize('path', DISTILL, ids=name)
def test_only_what_is_trained_has_an_optimizer(path):
    cfg = load(path)
    # mmseg's tools/train.py reads it for --amp.
    assert cfg.optim_wrapper.type in ('OptimWrapper', 'AmpOptimWrapper')
    trained = cfg.model.get('decoder') is not None
    for part in ('policy', 'decoder'):
        assert (cfg.optim_wrapper[part] is not None) is trained, part


def test_a_distillation_has_all_training_hooks():
    training, distillation = (
        load(ROOT / f'configs/_base_/runtime/{name}.py')
        for name in ('training_hooks', 'distill_hooks')
    )
    shared = dict(distillation.default_hooks)
    assert {shared.pop(key).type for key in DISTILL_HOOKS} == {
        f'repfusion_mm.{hook}' for hook in DISTILL_HOOKS.values()
    }
    assert shared == training.default_hooks


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_chains_of_configs_are_at_most_three_deep(path):
    assert depth(path) <= 3


def find_backbone(model):
    """Return the config of the backbone that was distilled."""
    return model.backbone.get('backbone_cfg', model.backbone)


def find_init(model):
    """Return the ``init_cfg`` of that backbone, or None."""
    return find_backbone(model).get('init_cfg')


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_scratch_configs_change_the_initialization_only(path):
    counterpart = path.with_name(path.name.replace('-scratch', '-repfusion'))
    scratch, repfusion = load(path), load(counterpart)
    init_cfg = find_backbone(repfusion.model).pop('init_cfg')
    assert init_cfg['type'] == 'Pretrained'
    assert init_cfg['_scope_'] == 'repfusion_mm'
    assert find_backbone(scratch.model).pop('init_cfg', None) is None
    assert scratch.to_dict() == repfusion.to_dict()


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_scratch_backbones_keep_their_default_initialization(path):
    """``init_cfg=None`` would replace it."""
    init_cfg = find_backbone(load(path).model).get('init_cfg', 0)
    # The config of mmpose names ImageNet weights, which None removes.
    assert init_cfg == (None if 'hrnet' in path.name else 0)


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_finetune_configs_inherit_from_their_own_project_only(path):
    path = path.with_name(path.name.replace('-scratch', '-repfusion'))
    project = load(path).default_scope
    for line in path.read_text().splitlines():
        if '_base_/' in line:
            assert f"'{project}::" in line


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_finetuning_repeats_the_backbone_and_normalization(path):
    """The reference implementation finetunes with another, random stem."""
    path = path.with_name(path.name.replace('-scratch', '-repfusion'))
    theirs = load(path)
    checkpoint = find_init(theirs.model).checkpoint
    distilled = re.fullmatch(r'work_dirs/(.*)/student\.pth', checkpoint)[1]
    (distillation,) = (p for p in CONFIGS if p.stem == distilled)
    assert str(distillation.relative_to(ROOT)) in path.read_text()
    ours = load(distillation).model
    preprocessor = theirs.model.get('data_preprocessor')
    preprocessor = preprocessor or theirs.data_preprocessor
    for key in ('mean', 'std'):
        assert ours.data_preprocessor[key] == preprocessor[key]
    assert swaps_channels(ours.data_preprocessor) == swaps_channels(
        preprocessor
    )
    student = MODELS.build(ours.student)
    backbone = dict(find_backbone(theirs.model))
    if '.' not in backbone['type']:
        backbone['type'] = f'{theirs.default_scope}.{backbone["type"]}'
    backbone = MODELS.build(backbone)
    assert {k: v.shape for k, v in student.state_dict().items()} == {
        k: v.shape for k, v in backbone.state_dict().items()
    }
    # The shapes do not determine strides, upsampling, padding, activations.
    student.init_weights()
    backbone.load_state_dict(student.state_dict())
    maps = dict(compute_maps(student))
    compared = maps.keys() & dict(compute_maps(backbone)).keys()
    assert compared
    for shape, feat in compute_maps(backbone):
        if shape in compared:
            error = (feat - maps[shape]).norm() / maps[shape].norm()
            assert error < 1e-5, shape


def swaps_channels(preprocessor):
    """Return whether BGR images become RGB; mmpretrain names it to_rgb."""
    return preprocessor.get('bgr_to_rgb', preprocessor.get('to_rgb'))


@torch.no_grad()
def compute_maps(net):
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator())
    net.eval()
    return [(feat.shape, feat) for feat in net(image)]
