"""Distill, export, finetune and evaluate with the projects' own tools.

The finetuning runs in a folder that holds only a copy of the config and the
data, like another project.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.utils import select_prefix
from tests.helpers.launcher import ROOT, launch
from tests.helpers.miniature import distill, options_for

#: By the finetune config: the project, the distillation, where the backbone
#: is in the model, and a metric.
TASKS = {
    'resnet18-repfusion_1xb128_tiny-imagenet': (
        'mmpretrain',
        'repfusion_resnet18_tiny-imagenet',
        'backbone',
        'accuracy/top1',
    ),
    'bisenetv1_r18-d32-repfusion_2xb8-160k_celebamask-hq-448x448': (
        'mmseg',
        'repfusion_resnet18_celebahq',
        'backbone.backbone_cfg',
        'mIoU',
    ),
    'td-hm_hrnetv2-w18-repfusion_2xb128-60e_wflw-256x256': (
        'mmpose',
        'repfusion_hrnet-w18_celebahq',
        'backbone',
        'NME',
    ),
    'rtmpose-t-repfusion_8xb256-420e_coco-256x192': (
        'mmpose',
        'repfusion-regressor_cspnext-tiny_coco',
        'backbone',
        'coco/AP',
    ),
}
DETECTORS = {
    'mask-rcnn_r50-repfusion_fpn_1x_coco': 'resnet50',
    'faster-rcnn_r18-repfusion_fpn_1x_coco': 'resnet18',
    'rtmdet_tiny-repfusion_8xb32-300e_coco': 'cspnext-tiny',
}


def call(folder, tool, config, *arguments, options, expect=0):
    """Run a tool of a project without this checkout on the import path."""
    return launch(
        sys.executable, tool, config, *arguments, '--cfg-options',
        *[f'{key}={value}' for key, value in options.items()],
        cwd=folder, expect=expect, PYTHONPATH='',
    )  # fmt: skip


@pytest.mark.parametrize('finetune', TASKS)
def test_from_distillation_to_evaluation(
    finetune, site, tmp_path, monkeypatch
):
    project, name, where, metric = TASKS[finetune]
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


@pytest.mark.parametrize('finetune', DETECTORS)
def test_mmdet_trains_validates_tests_and_resumes(
    finetune, site, tmp_path, monkeypatch
):
    monkeypatch.chdir(site)
    distillation = f'repfusion-regressor_{DETECTORS[finetune]}_coco'
    student = site / distill(distillation)
    (tmp_path / 'data').symlink_to(site / 'data')
    config = ROOT / f'configs/finetune/mmdet/{finetune}.py'
    shutil.copy(config, tmp_path)
    options = options_for(config)
    options['model.backbone.init_cfg.checkpoint'] = student
    check_features(
        config, options, ROOT / f'configs/distill/{distillation}.py'
    )
    if 'rtmdet' in finetune:
        options['custom_hooks.1.switch_epoch'] = 1
    mim = Path(importlib.import_module('mmdet').__file__).parent / '.mim'
    train, test = mim / 'tools/train.py', mim / 'tools/test.py'
    output = call(tmp_path, train, config.name, options=options)
    size = len(load_from_local(student)['state_dict'])
    assert f'loaded {size}/{size} tensors' in output
    assert 'bbox_mAP: ' in output
    (last,) = tmp_path.glob('work_dirs/*/epoch_1.pth')
    assert load_from_local(last)['meta']['iter'] == 2
    output = call(tmp_path, test, config.name, last, options=options)
    assert 'bbox_mAP: ' in output
    options['train_cfg.max_epochs'] = 2
    output = call(tmp_path, train, config.name, '--resume', options=options)
    assert 'resumed epoch: 1, iter: 2' in output
    assert 'Epoch(val) [2]' in output
    assert ('Switch pipeline now!' in output) == ('rtmdet' in finetune)


def check_features(finetune, options, distillation):
    """Compare the maps in the detector with those of the exported student."""
    cfg = Config.fromfile(finetune)
    cfg.merge_from_dict(options)
    detector = MODELS.build(dict(cfg.model, _scope_='mmdet'))
    detector.init_weights()
    ours = Config.fromfile(distillation).model
    student = MODELS.build(ours.student)
    checkpoint = cfg.model.backbone.init_cfg.checkpoint
    weights = load_from_local(checkpoint)
    prefix = weights['meta']['prefix']
    student.load_state_dict(select_prefix(weights['state_dict'], prefix))
    image = torch.randint(256, (3, 96, 128), dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(img_shape=(96, 128)))
    theirs = detector.data_preprocessor(
        dict(inputs=[image], data_samples=[sample])
    )
    batch = MODELS.build(ours.data_preprocessor)(dict(inputs=[image]))
    student.eval()
    detector.eval()
    with torch.no_grad():
        expected = student(batch['inputs'])[-1]
        found = detector.backbone(theirs['inputs'])[-1]
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
