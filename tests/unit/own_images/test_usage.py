"""The printed lines load the student in a project."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from repfusion_mm.own_images.choices import choose_student
from repfusion_mm.own_images.config import fill_in
from repfusion_mm.own_images.labels import Labels
from repfusion_mm.own_images.usage import (
    describe_usage,
    inherit,
    write_configs,
)

CONFIGS = [
    'mmpretrain::resnet/resnet18_8xb32_in1k.py',
    # With model.pretrained and SyncBN.
    'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    # With init_cfg.
    'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
    'td-hm_res50_8xb64-210e_coco-256x192.py',
    # With frozen layers.
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
]


def write_config(folder, settings):
    path = folder / 'finetune.py'
    path.write_text(Config(settings).pretty_text)
    return path


@pytest.mark.parametrize('base', CONFIGS)
def test_the_config_of_the_student_is_inherited(tmp_path, base):
    config = tmp_path / 'my_config.py'
    config.write_text(
        f'_base_ = [{base!r}]\n'
        "custom_imports = dict(imports=['repfusion_mm', 'torch'])\n"
    )
    words = [str(config)]
    student = choose_student(words, 224)
    weights = MODELS.build(student).state_dict()
    checkpoint = tmp_path / 'student.pth'
    torch.save(dict(state_dict=weights), checkpoint)
    cfg = fill_in(dict(student=student), 'sd15')
    used, scratch = (
        Config.fromfile(write_config(tmp_path, inherit(words[0], cfg, path)))
        for path in (checkpoint, None)
    )
    backbone = MODELS.build(
        dict(used.model.backbone, _scope_=used.default_scope)
    )
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert getattr(backbone, 'frozen_stages', -1) == -1
    assert not backbone.norm_eval
    assert used.model.get('pretrained') is None
    assert used.custom_imports.imports.count('repfusion_mm') == 1
    # Its own norm is kept.
    before = Config.fromfile(config).model.backbone.get('norm_cfg')
    assert used.model.backbone.get('norm_cfg') == before
    # The baseline differs by the weights only, as report.py requires.
    assert 'init_cfg' not in scratch.model.backbone
    del used.model.backbone['init_cfg']
    assert used.default_hooks.strict_load.type.endswith('LoadHook')
    assert used.to_dict() == scratch.to_dict()


def test_nothing_else_replaces_the_weights(tmp_path):
    """A load_from is loaded last, and others would make scratch pretrained."""
    config = tmp_path / 'my_config.py'
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "load_from = 'detector.pth'\n"
        'model = dict(\n'
        "    type='ImageClassifier',\n"
        '    init_cfg=[\n'
        "        dict(type='Pretrained', checkpoint='model.pth'),\n"
        "        dict(type='Normal', layer='Linear', std=0.01)],\n"
        "    backbone=dict(type='TIMMBackbone', model_name='resnet18',\n"
        '                  pretrained=True))\n'
    )
    cfg = fill_in(dict(student=choose_student([str(config)], 224)), 'sd15')
    for student in (tmp_path / 'student.pth', None):
        path = write_config(tmp_path, inherit(str(config), cfg, student))
        used = Config.fromfile(path)
        assert used.load_from is None
        assert [i.type for i in used.model.init_cfg] == ['Normal']
        assert 'pretrained' not in used.model.backbone
        assert ('init_cfg' in used.model.backbone) == bool(student)


def test_other_pretrained_parts_are_named(tmp_path):
    """Of mmdet's Faster R-CNN C4, and a frozen norm of its backbone."""
    config = tmp_path / 'my_config.py'
    config.write_text(
        "_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py']\n"
    )
    student = choose_student([str(config)], 224)
    assert student['norm_cfg']['requires_grad']
    cfg = fill_in(dict(student=student), 'sd15')
    text = write_configs(str(config), cfg, tmp_path / 'student.pth')
    assert text.endswith('in both: model.roi_head.shared_head.init_cfg')
    used = Config.fromfile(tmp_path / 'finetune.py').model.backbone
    assert used.norm_cfg.requires_grad
    assert used.init_cfg.checkpoint == str(tmp_path / 'student.pth')


@pytest.mark.parametrize(
    ('task', 'base'),
    zip(('classes', 'masks', 'keypoints', 'boxes'), CONFIGS),
)
def test_a_student_without_a_config_replaces_the_backbone(
    tmp_path, task, base
):
    student = dict(type='mmpretrain.ResNet', depth=18, out_indices=[0, 3])
    start = dict(init_cfg=dict(type='Pretrained', checkpoint='earlier.pth'))
    cfg = fill_in(dict(student={**student, **start}), 'sd15')
    labels = Labels(task, 'labels')
    text = describe_usage(cfg, tmp_path / 'student.pth', labels)
    lines = text.partition(':\n\n')[2]
    (tmp_path / 'all.py').write_text(f'_base_ = [{base!r}]\n{lines}')
    used = Config.fromfile(tmp_path / 'all.py')
    backbone = dict(used.model.backbone)
    assert backbone.pop('init_cfg').checkpoint == str(tmp_path / 'student.pth')
    assert backbone == student
    assert used.model.get('pretrained') is None
