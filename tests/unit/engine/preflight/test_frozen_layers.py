from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS

from repfusion_mm.engine.checkpoint.initializers import SOURCE
from repfusion_mm.engine.preflight.frozen_layers import (
    check_finetuned,
    check_statistics,
    check_student,
)
from repfusion_mm.models.utils.frozen_layers import freezing_settings
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

MOCO = dict(VIT, type='mmpretrain.MoCoV3ViT')


def distiller(student, **arguments):
    config = distiller_config(student=dict(student, **arguments))
    model = MODELS.build(config)
    model.config = config
    return model


def check(model, schedules=(), loaded=(), **optim):
    """Check a model as in a run, with ``optim`` for the student."""
    parts = {name: optimizer(0.1) for name in model.optim_parts()}
    parts['student'].update(optim)
    constructor = 'repfusion_mm.MultiOptimWrapperConstructor'
    wrapper = build_optim_wrapper(model, dict(parts, constructor=constructor))
    built = [
        PARAM_SCHEDULERS.build(dict(schedule, optimizer=wrapper['student']))
        for schedule in schedules
    ]
    runner = SimpleNamespace(
        model=model,
        cfg=dict(model=model.config),
        optim_wrapper=wrapper,
        param_schedulers=dict(student=built),
    )
    check_student(runner, loaded)


def optimizer(lr):
    return dict(optimizer=dict(type='SGD', lr=lr))


def mult(*keys, lr_mult=0.0):
    keys = {key: dict(lr_mult=lr_mult) for key in keys}
    return dict(paramwise_cfg=dict(custom_keys=keys))


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
        (
            RESNET,
            dict(norm_cfg=dict(type='BN', momentum=0.0)),
            r'of momentum 0\) .*set model\.student\.norm_cfg\.momentum=0\.1,',
        ),
        (VIT, dict(frozen_stages=1), r'student\.frozen_stages=-1'),
        # The argument is no attribute of the backbone.
        (
            MOCO,
            dict(stop_grad_conv1=True),
            r'set model\.student\.stop_grad_conv1=False, or give',
        ),
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
    check(distiller(student))
    with pytest.raises(ValueError, match=settings):
        check(distiller(student, **arguments))


def test_the_advice_is_a_value_that_the_backbone_accepts():
    """EfficientNet raises an error for frozen_stages=-1."""
    config = dict(type='mmpretrain.EfficientNet', frozen_stages=1)
    assert freezing_settings(config, 's') == 'set s.frozen_stages=0'
    backbone = MODELS.build(dict(config, frozen_stages=0))
    backbone.train()
    assert all(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize('momentum', [None, 0.01, 1.0])
def test_batch_norms_may_have_any_other_momentum(momentum):
    check(distiller(RESNET, norm_cfg=dict(type='BN', momentum=momentum)))


def test_students_may_recompute_activations():
    model = distiller(RESNET, with_cp=True)
    check(model)
    assert all(p.grad is None for p in model.parameters())


def test_students_without_trained_parameters_are_refused():
    with pytest.raises(ValueError, match=r'model\.student\.frozen_stages=-1'):
        distiller(RESNET, frozen_stages=4)


def test_layers_with_loaded_weights_may_be_frozen(log, tmp_path):
    trained = MODELS.build(RESNET)
    fill_statistics(trained)
    file = str(tmp_path / 'weights.pth')
    torch.save(trained.state_dict(), file)
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=file)
    arguments = dict(frozen_stages=1, norm_eval=True, init_cfg=init_cfg)
    model = distiller(RESNET, **arguments)
    model.init_weights()
    check(model)
    assert 'exported as they are loaded' in log.text
    assert 'student: 15 of 60 tensors are frozen (conv1.weight' in log.text
    assert 'model.student.frozen_stages=-1' in log.text


def test_fixed_statistics_of_finetuning_must_be_loaded():
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(RESNET, frozen_stages=1),
    )
    model = MODELS.build(config)
    runner = SimpleNamespace(model=model, cfg=dict(model=config))
    with pytest.raises(ValueError, match=r'model\.backbone\.frozen_stages=-1'):
        check_statistics(runner)
    fill_statistics(model)
    check_statistics(runner)


def test_statistics_may_be_contained_in_weights_and_biases():
    """As in Detectron's files, which mmdet's "caffe" backbones load."""
    config = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(RESNET, norm_eval=True),
    )
    model = MODELS.build(config)
    runner = SimpleNamespace(model=model, cfg=dict(model=config))
    model.train()
    with pytest.raises(ValueError, match='got initial values in 20 layers'):
        check_statistics(runner)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight)
    check_statistics(runner)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (
            dict(frozen_stages=1),
            'backbone: 15 tensors of student.pth are frozen and 5 batch norms '
            'keep the statistics of the distillation (bn1.bias ...)',
        ),
        (
            dict(norm_eval=True),
            'backbone: 20 batch norms keep the statistics',
        ),
        (dict(frozen_stages=-1, norm_eval=False), None),
    ],
)
def test_frozen_layers_of_a_finetuned_student_are_warned_of(
    arguments, words, log
):
    backbone = dict(RESNET, **arguments)
    config = dict(type='mmpretrain.ImageClassifier', backbone=backbone)
    model = MODELS.build(config)
    fill_statistics(model)
    runner = SimpleNamespace(model=model, cfg=dict(model=config))
    check_finetuned(runner, model.backbone)  # not a student
    assert 'distillation' not in log.text
    setattr(model.backbone, SOURCE, ('student.pth', None, False))
    check_finetuned(runner, model.backbone)
    if words is None:
        assert 'distillation' not in log.text
        return
    assert words in log.text
    ((name, value), *_) = arguments.items()
    value = -1 if name == 'frozen_stages' else False
    assert f'to train them, set model.backbone.{name}={value}' in log.text


def test_design_of_a_finetuned_student_is_not_warned_of(log):
    config = dict(type='mmpretrain.ImageClassifier', backbone=MOCO)
    model = MODELS.build(config)
    setattr(model.backbone, SOURCE, ('student.pth', None, False))
    check_finetuned(
        SimpleNamespace(model=model, cfg=dict(model=config)), model.backbone
    )
    assert 'distillation' not in log.text


RISE = dict(type='CosineAnnealingLR', T_max=2, eta_min=0.1)


@pytest.mark.parametrize(
    ('schedules', 'optim'),
    [
        ([], {}),
        ([], mult('conv1', lr_mult=0.01)),
        # Warmup, from 0 or nearly.
        ([dict(type='LinearLR', start_factor=1e-9, end=5)], {}),
        (
            [
                dict(
                    type='CosineAnnealingLR',
                    T_max=9,
                    eta_min=0.1,
                    by_epoch=False,
                )
            ],
            mult('conv1'),
        ),
        # One that ends with 0, and those that raise a rate of 0.
        ([dict(type='CosineAnnealingLR', T_max=20, by_epoch=False)], {}),
        (
            [RISE],
            optimizer(0.0),
        ),
        (
            [dict(type='OneCycleLR', eta_max=0.1, total_steps=20)],
            mult('conv1'),
        ),
        ([dict(type='ReduceOnPlateauLR', monitor='acc')], {}),
    ],
)
def test_layers_that_have_a_learning_rate_for_some_time_are_trained(
    schedules, optim
):
    check(distiller(RESNET), schedules, **optim)


@pytest.mark.parametrize(
    ('student', 'schedules', 'optim'),
    [
        (RESNET, [], optimizer(0.0)),
        (RESNET, [], mult('student')),
        (RESNET, [], mult('conv1')),
        (VIT, [], dict(paramwise_cfg=dict(bias_lr_mult=0.0))),
        (VIT, [], mult('patch_embed')),
        (RESNET, [dict(type='MultiStepLR', milestones=[1])], mult('bn1')),
        (RESNET, [dict(type='ReduceOnPlateauLR')], optimizer(0.0)),
    ],
)
def test_random_layers_without_a_learning_rate_are_refused(
    student, schedules, optim
):
    with pytest.raises(ValueError, match=r'optim_wrapper\.student\.paramwise'):
        check(distiller(student), schedules, **optim)


def test_layers_that_only_python_freezes_are_refused():
    model = distiller(RESNET)
    model.student.layer1.requires_grad_(False)
    with pytest.raises(
        ValueError, match=r'no argument of model\.student trains'
    ):
        check(model)


def test_parameters_in_no_optimizer_are_refused(monkeypatch):
    model = distiller(RESNET)
    monkeypatch.setattr(
        model, 'optim_parts', lambda: dict(student=model.student.layer4)
    )
    with pytest.raises(ValueError, match=r'\(conv1.weight \.\.\.\)'):
        check(model)


def test_weights_of_load_from_may_be_frozen(log):
    model = distiller(dict(VIT, norm_cfg=dict(type='LN', eps=1e-3)))
    check(model, loaded=model.state_dict(), **optimizer(0.0))
    assert 'exported as they are loaded; to train them: set a lea' in log.text
    # The connector, which is in the student's optimizer.
    assert 'tensors stay as they are initialized (connectors.' in log.text


def test_schedules_that_would_divide_by_zero_are_refused():
    schedule = dict(type='LinearLR', start_factor=0.0, end=5, by_epoch=False)
    with pytest.raises(ValueError, match='start_factor above 0'):
        check(distiller(RESNET), [schedule])


def test_students_whose_state_dict_is_incomplete_are_refused():
    lora = dict(
        type='mmpretrain.LoRAModel', module=VIT, rank=2,
        targets=[dict(type='qkv')],
    )  # fmt: skip
    with pytest.raises(ValueError, match='the backbone that it wraps'):
        check(distiller(lora))
