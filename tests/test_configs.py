"""All configs, found and not listed."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
SCRATCH = [path for path in CONFIGS if '-scratch' in path.name]


def name(path):
    return path.stem


def test_there_are_configs():
    assert {path.parent.name for path in CONFIGS} >= {
        'teacher',
        'distill',
        'mmpretrain',
    }
    assert SCRATCH


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_parts_of_the_config_build(path, teacher_folder):
    cfg = Config.fromfile(path)
    model = cfg.model
    if 'teacher' in model:
        model.teacher.pretrained = teacher_folder
    if 'data_preprocessor' in cfg and 'data_preprocessor' not in model:
        model.data_preprocessor = cfg.data_preprocessor
    if path.parent.parent.name == 'finetune':
        model.data_preprocessor.type = 'mmpretrain.ClsDataPreprocessor'
    assert MODELS.build(model) is not None
    for hook in cfg.get('custom_hooks', []):
        assert HOOKS.build(hook) is not None


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_twins_differ_by_the_initialisation_alone(path):
    twin = path.with_name(path.name.replace('-scratch', '-repfusion'))
    scratch, repfusion = Config.fromfile(path), Config.fromfile(twin)
    init_cfg = repfusion.model.backbone.pop('init_cfg')
    assert init_cfg['type'] == 'Pretrained'
    assert init_cfg['_scope_'] == 'repfusion_mm'
    scratch.model.backbone.pop('init_cfg', None)
    assert scratch.to_dict() == repfusion.to_dict()


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_finetune_configs_inherit_from_installed_projects_alone(path):
    if path.parent.parent.name != 'finetune':
        return
    project = path.parent.name
    for line in path.read_text().splitlines():
        if '_base_/' in line:
            assert f"'{project}::" in line


@pytest.mark.parametrize(
    ('distill', 'finetune'),
    [
        ('repfusion_r18_digits', 'resnet18-repfusion_digits'),
        ('repfusion_r18_cifar', 'resnet18-repfusion_1xb64_cifar10'),
    ],
)
def test_finetuning_repeats_the_students_backbone_and_normalisation(
    distill, finetune
):
    configs = {path.stem: path for path in CONFIGS}
    ours = Config.fromfile(configs[distill]).model
    theirs = Config.fromfile(configs[finetune])
    for key in ('mean', 'std'):
        assert ours.data_preprocessor[key] == theirs.data_preprocessor[key]
    student = MODELS.build(ours.student).state_dict()
    backbone = dict(theirs.model.backbone)
    assert backbone['init_cfg']['checkpoint'] == (
        f'work_dirs/{distill}/student.pth'
    )
    backbone['type'] = f'mmpretrain.{backbone["type"]}'
    backbone = MODELS.build(backbone).state_dict()
    assert {k: v.shape for k, v in student.items()} == {
        k: v.shape for k, v in backbone.items()
    }
