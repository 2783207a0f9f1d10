import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.engine.preflight.frozen_layers import (
    check_statistics,
    check_student,
)
from tests.helpers.toy import distiller_config

RESNET = dict(
    type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8
)
VIT = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
    ),
    img_size=16,
    patch_size=4,
    out_type='featmap',
)


def distiller(student, **arguments):
    return MODELS.build(distiller_config(student=dict(student, **arguments)))


def fill_statistics(model):
    for module in model.modules():
        if hasattr(module, 'running_mean'):
            torch.nn.init.normal_(module.running_mean)


@pytest.mark.parametrize(
    ('student', 'arguments', 'settings'),
    [
        (RESNET, dict(frozen_stages=0), r'student\.frozen_stages=-1'),
        (RESNET, dict(norm_eval=True), r'student\.norm_eval=False'),
        (
            RESNET,
            dict(norm_cfg=dict(type='BN', requires_grad=False)),
            r'student\.norm_cfg\.requires_grad=True',
        ),
        (VIT, dict(frozen_stages=1), r'student\.frozen_stages=-1'),
        (
            dict(type='repfusion_mm.MobileNetV2_CIFAR'),
            dict(frozen_stages=2, norm_eval=True),
            r'student\.frozen_stages=-1 and model\.student\.norm_eval=False',
        ),
    ],
)
def test_random_layers_that_are_not_trained_are_refused(
    student, arguments, settings
):
    check_student(distiller(student))
    with pytest.raises(ValueError, match=settings):
        check_student(distiller(student, **arguments))


def test_students_may_recompute_activations():
    model = distiller(RESNET, with_cp=True)
    check_student(model)
    assert all(p.grad is None for p in model.parameters())


def test_students_without_trained_parameters_are_refused():
    with pytest.raises(ValueError, match=r'model\.student\.frozen_stages=-1'):
        distiller(RESNET, frozen_stages=4)


def test_layers_with_loaded_weights_may_be_frozen(monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(
        'repfusion_mm.engine.preflight.frozen_layers.print_log',
        lambda message, **kwargs: said.append(message),
    )
    trained = MODELS.build(RESNET)
    fill_statistics(trained)
    file = str(tmp_path / 'weights.pth')
    torch.save(trained.state_dict(), file)
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=file)
    arguments = dict(frozen_stages=1, norm_eval=True, init_cfg=init_cfg)
    model = distiller(RESNET, **arguments)
    model.init_weights()
    check_student(model)
    assert 'exported as they are loaded' in said[0]
    assert 'student: 15 of 60 tensors are frozen (conv1.weight' in said[0]
    assert 'model.student.frozen_stages=-1' in said[0]


def test_fixed_statistics_of_finetuning_must_be_loaded():
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(RESNET, frozen_stages=1),
        )
    )
    with pytest.raises(ValueError, match=r'model\.backbone\.frozen_stages=-1'):
        check_statistics(model)
    fill_statistics(model)
    check_statistics(model)
