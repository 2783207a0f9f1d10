"""Distil, export, finetune and evaluate, with the projects' own tools.

The finetuning runs in a folder that holds the copied config and the data,
as in somebody else's project.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.launcher import ROOT, launch
from tests.helpers.miniature import options_for

TASKS = {
    'mmpretrain': (
        'repfusion_resnet18_tiny-imagenet',
        'resnet18-repfusion_1xb128_tiny-imagenet',
        'backbone',
        'accuracy/top1',
    ),
    'mmseg': (
        'repfusion_resnet18_celebahq',
        'bisenetv1_r18-d32-repfusion_2xb8-160k_celebamask-hq-448x448',
        'backbone.backbone_cfg',
        'mIoU',
    ),
    'mmpose': (
        'repfusion_hrnet-w18_celebahq',
        'td-hm_hrnetv2-w18-repfusion_2xb128-60e_wflw-256x256',
        'backbone',
        'NME',
    ),
}


def call(folder, tool, *arguments, expect=0):
    """Run a tool without this checkout on the path."""
    return launch(
        sys.executable, tool, *arguments, cwd=folder, expect=expect,
        PYTHONPATH='',
    )  # fmt: skip


def as_options(options):
    return ['--cfg-options', *[f'{k}={v}' for k, v in options.items()]]


@pytest.mark.parametrize('project', TASKS)
def test_from_distillation_to_evaluation(project, site, tmp_path):
    distill, finetune, where, metric = TASKS[project]
    config = ROOT / f'configs/distill/{distill}.py'
    student = tmp_path / 'distilled' / 'student.pth'
    call(
        site, ROOT / 'tools/train.py', config, '--work-dir', student.parent,
        *as_options(options_for(config)),
    )  # fmt: skip

    theirs = tmp_path / 'project'
    theirs.mkdir()
    (theirs / 'data').symlink_to(site / 'data')
    config = ROOT / f'configs/finetune/{project}/{finetune}.py'
    shutil.copy(config, theirs)
    tools = Path(importlib.import_module(project).__file__).parent / '.mim'
    options = options_for(config)
    output = call(
        theirs, tools / 'tools/train.py', f'{finetune}.py',
        *as_options(options), expect=1,
    )  # fmt: skip
    assert "expected a checkpoint at 'work_dirs/" in output
    assert '(train) [' not in output

    options[f'model.{where}.init_cfg.checkpoint'] = student
    output = call(
        theirs, tools / 'tools/train.py', f'{finetune}.py',
        *as_options(options),
    )  # fmt: skip
    size = len(load_from_local(student)['state_dict'])
    assert f'loaded {size}/{size} tensors' in output
    checkpoint = next(theirs.glob('work_dirs/*/*_[12].pth'))
    output = call(
        theirs, tools / 'tools/test.py', f'{finetune}.py', checkpoint,
        *as_options(options),
    )  # fmt: skip
    assert metric in output
