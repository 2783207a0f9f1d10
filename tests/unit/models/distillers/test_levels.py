"""Several student maps against several teacher layers."""

import copy

import pytest
import torch
import torch.nn as nn
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from tests.helpers.levels import LAYERS, REGRESSOR, levels_config
from tests.helpers.ranks import run_on_ranks
from tests.helpers.toy import batch, distiller_config
from tests.unit.engine.optimizers.test_joint_optim_wrapper import config


def build(**overrides):
    return MODELS.build(levels_config(**overrides))


def losses_of(model, data=None):
    data = model.data_preprocessor(data or batch(size=32), True)
    return model(**data, mode='loss')


def test_one_level_is_one_convolution_and_one_loss():
    """Values are those of the parts, built in their order with one seed."""
    cfg = distiller_config(
        policy=dict(type='repfusion_mm.FixedTimestepPolicy', timestep=123),
        decoder=None,
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    torch.manual_seed(0)
    student = MODELS.build(cfg['student'])
    teacher = MODELS.build(cfg['teacher'])
    conv = nn.Conv2d(64, 16, 1)
    student.init_weights()
    weights = model.connectors.state_dict()
    assert torch.equal(weights.pop('0.conv.weight'), conv.weight)
    assert torch.equal(weights.pop('0.conv.bias'), conv.bias)
    assert not weights
    data = model.data_preprocessor(batch(), True)
    (target,) = teacher(
        model.images(data['inputs']), torch.full((4,), 123)
    ).values()
    student.to(memory_format=torch.channels_last)
    found = conv(student(data['inputs'])[-1]).mean((2, 3))
    expected = (found - target.float().mean((2, 3))).square().mean()
    losses = model.loss(**data)
    assert torch.equal(losses['loss_distill'], expected)
    assert not any(name.startswith('distill_') for name in losses)


def test_gradients_reach_every_stage_and_all_of_the_regressor():
    model = build()
    losses_of(model)['loss_distill'].backward()
    for name, parameter in model.named_parameters():
        if name.startswith(('student.', 'connectors.')):
            assert parameter.grad.any(), name


def test_each_map_is_compared_with_its_layer():
    model = build(connector=None)
    compared = []
    model.distill_loss.register_forward_pre_hook(
        lambda module, maps: compared.append(maps)
    )
    losses_of(model)
    assert [ours.shape[1:] for ours, _ in compared] == [
        (8, 16, 16), (16, 8, 8), (16, 4, 4),
    ]  # fmt: skip
    shapes = list(model.teacher.feature_shapes.values())
    assert [theirs.shape[1:] for _, theirs in compared] == shapes


def test_the_regressor_is_given_all_maps_at_once():
    model = build()
    data = model.data_preprocessor(batch(size=32), True)
    given = []
    model.connectors.register_forward_pre_hook(
        lambda module, args: given.append(args[0])
    )
    model.loss(**data)
    (feats,) = given
    model.eval()
    for ours, theirs in zip(feats, model.student(data['inputs'])):
        assert ours.shape == theirs.shape
    parts = model.optim_parts()
    ours = {id(p) for p in model.connectors.parameters()}
    assert ours <= {id(p) for p in parts['student'].parameters()}


def test_the_layers_of_an_image_have_one_timestep():
    model = build()
    calls = []
    forward = model.teacher.forward
    model.teacher.forward = lambda *args: (
        calls.append((args[1], forward(*args))) or calls[-1][1]
    )
    losses = losses_of(model)
    ((timesteps, maps),) = calls
    assert list(maps) == LAYERS
    assert timesteps.shape == (4,) and timesteps.unique().numel() > 1
    assert losses['timestep_mean'] == timesteps.float().mean()


@pytest.mark.parametrize('amp', [False, True])
def test_steps_lower_the_loss(amp):
    torch.manual_seed(0)
    policy = dict(type='repfusion_mm.FixedTimestepPolicy')
    model = build(policy=policy, decoder=None)
    model.init_weights()
    kind = 'repfusion_mm.BFloat16OptimWrapper' if amp else 'OptimWrapper'
    wrapper = build_optim_wrapper(
        model,
        config(
            type=kind,
            student=dict(optimizer=dict(type='Adam', lr=1e-2)),
            policy=None,
            decoder=None,
        ),
    )
    data = batch(size=32)
    losses = [
        model.train_step(copy.deepcopy(data), wrapper)['loss_distill'].item()
        for _ in range(5)
    ]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.distributed
def test_processes_need_not_look_for_unused_parameters():
    def train(rank):
        torch.manual_seed(0)
        model = build()
        model.init_weights()
        wrapper = build_optim_wrapper(model, config())
        parallel = MMDistributedDataParallel(model)
        torch.manual_seed(1 + rank)
        for _ in range(2):
            parallel.train_step(batch(size=32), wrapper)
        weights = [p.detach().flatten() for p in model.parameters()]
        return torch.cat(weights).tolist()

    first, second = run_on_ranks(train)
    assert first == second


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(student_indices=(0, 1)), 'got 2 for 3; set model.student_ind'),
        (
            dict(distill_loss=dict(type='repfusion_mm.RelationalLoss')),
            'no connector with RelationalLoss.*; remove model.connector',
        ),
        (
            dict(connector=dict(REGRESSOR, pool_scales=(1, 5))),
            r'at most 4.* got \[1, 5\]; leave out',
        ),
        (dict(connector=dict(REGRESSOR, channels=0)), 'got 0; correct it'),
        (
            dict(
                student=dict(
                    distiller_config()['student'],
                    out_indices=(1, 2, 3),
                    strides=(2, 2, 2, 4),
                ),
                connector=dict(REGRESSOR, pool_scales=(1,)),
            ),
            'more than one pixel for FeatureRegressor, got .64, 1, 1.',
        ),
    ],
)
def test_levels_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build(**overrides)
