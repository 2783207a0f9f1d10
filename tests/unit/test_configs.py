"""All configs, found and not listed."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

ROOT = Path(__file__).parents[2]
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


def find_backbone(model):
    """Return the backbone of a task network that was distilled."""
    return model.backbone.get('backbone_cfg', model.backbone)


def find_init(model):
    """Return how that backbone is initialised, or None."""
    return find_backbone(model).get('init_cfg')


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_twins_differ_by_the_initialisation_alone(path):
    twin = path.with_name(path.name.replace('-scratch', '-repfusion'))
    scratch, repfusion = Config.fromfile(path), Config.fromfile(twin)
    init_cfg = find_backbone(repfusion.model).pop('init_cfg')
    assert init_cfg['type'] == 'Pretrained'
    assert init_cfg['_scope_'] == 'repfusion_mm'
    assert find_backbone(scratch.model).pop('init_cfg', None) is None
    assert scratch.to_dict() == repfusion.to_dict()


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_finetune_configs_inherit_from_installed_projects_alone(path):
    if path.parent.parent.name != 'finetune':
        return
    project = path.parent.name
    for line in path.read_text().splitlines():
        if '_base_/' in line:
            assert f"'{project}::" in line


@pytest.mark.parametrize('path', SCRATCH, ids=name)
def test_finetuning_repeats_the_students_backbone_and_normalisation(path):
    """Fault 10 of the public code: another stem, that stays random."""
    path = path.with_name(path.name.replace('-scratch', '-repfusion'))
    theirs = Config.fromfile(path)
    checkpoint = find_init(theirs.model).checkpoint
    distilled = re.fullmatch(r'work_dirs/(.*)/student\.pth', checkpoint)[1]
    assert distilled in path.read_text().splitlines()[0]
    ours = Config.fromfile(ROOT / f'configs/distill/{distilled}.py').model
    preprocessor = theirs.model.get('data_preprocessor')
    preprocessor = preprocessor or theirs.data_preprocessor
    for key in ('mean', 'std'):
        assert ours.data_preprocessor[key] == preprocessor[key]
    student = MODELS.build(ours.student)
    backbone = dict(find_backbone(theirs.model))
    if '.' not in backbone['type']:
        backbone['type'] = f'{path.parent.name}.{backbone["type"]}'
    backbone = MODELS.build(backbone)
    assert {k: v.shape for k, v in student.state_dict().items()} == {
        k: v.shape for k, v in backbone.state_dict().items()
    }
    # Strides do not show in the shapes.
    assert strides(student) == strides(backbone)


def strides(net):
    return {
        name: module.stride
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    }
