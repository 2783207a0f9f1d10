"""Distill, export, finetune and evaluate with the projects' own tools.

The finetuning runs in a folder that holds only a copy of the config and the
data, like another project.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.launcher import ROOT, launch
from tests.helpers.miniature import distill, options_for

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


def call(folder, tool, config, *arguments, options, expect=0):
    """Run a tool of a project without this checkout on the import path."""
    return launch(
        sys.executable, tool, config, *arguments, '--cfg-options',
        *[f'{key}={value}' for key, value in options.items()],
        cwd=folder, expect=expect, PYTHONPATH='',
    )  # fmt: skip


@pytest.mark.parametrize('project', TASKS)
def test_from_distillation_to_evaluation(project, site, tmp_path, monkeypatch):
    name, finetune, where, metric = TASKS[project]
    monkeypatch.chdir(site)
    student = site / distill(name)

    (tmp_path / 'data').symlink_to(site / 'data')
    config = ROOT / f'configs/finetune/{project}/{finetune}.py'
    shutil.copy(config, tmp_path)
    mim = Path(importlib.import_module(project).__file__).parent / '.mim'
    train, test = mim / 'tools/train.py', mim / 'tools/test.py'
    options = options_for(config)
    if project == 'mmpretrain':
        child = tmp_path / 'child.py'
        child.write_text(f'_base_ = [{str(config)!r}]')
        output = call(tmp_path, train, child.name, options=options, expect=1)
        assert "expected a checkpoint at 'work_dirs/" in output
        assert '(train) [' not in output

    options[f'model.{where}.init_cfg.checkpoint'] = student
    output = call(tmp_path, train, config.name, options=options)
    size = len(load_from_local(student)['state_dict'])
    assert f'loaded {size}/{size} tensors' in output
    checkpoint = next(tmp_path.glob('work_dirs/*/*_[12].pth'))
    output = call(tmp_path, test, config.name, checkpoint, options=options)
    assert metric in output
