"""Several student maps against several teacher layers."""

import copy

import pytest
import torch
import torch.nn as nn
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from repfusion_mm.models import AttentionTransferLoss, HintLoss
from tests.helpers.levels import DENSE_HINT, LAYERS, REGRESSOR, levels_config
from tests.helpers.ranks import run_on_ranks
from tests.helpers.toy import batch, distiller_config
from tests.unit.engine.optimizers.test_joint_optim_wrapper import config


def build(**overrides):
    return MODELS.build(levels_config(**overrides))


class KeepChannels(nn.Identity):
    """A connector that ignores the teacher's channels."""

    def __init__(self, in_channels, out_channels):
        super().__init__()


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
    student.to(memory_format=model.memory_format)
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


@pytest.mark.parametrize('layers', ['last', 'all'])
def test_the_decoder_reads_the_last_layer_or_all(layers):
    policy = dict(type='repfusion_mm.FixedTimestepPolicy', timestep=9)
    model = build(decoder_layers=layers, policy=policy).eval()
    seen = []
    loss = model.decoder.loss
    model.decoder.loss = lambda feat, *args: (
        seen.append(feat) or loss(feat, *args)
    )
    data = model.data_preprocessor(batch(size=32), True)
    model.loss(**data)
    timesteps = torch.full((4,), 9)
    first, second, last = model.teacher(
        model.images(data['inputs']), timesteps
    ).values()
    if layers == 'all':  # 16 x 16 in the grid of the last one, 8 x 8
        kernel = torch.tensor([1.0, 3, 3, 1]) / 8
        for feat, found in zip((first, second), seen[0].split([8, 16, 16], 1)):
            inner = feat[..., 1:-1, 1:-1]  # borders have other kernels
            windows = inner.unfold(2, 4, 2).unfold(3, 4, 2)
            expected = windows @ kernel @ kernel
            torch.testing.assert_close(found[..., 1:-1, 1:-1], expected)
        last = torch.cat([seen[0][:, :24], last], dim=1)
    assert torch.equal(seen[0], last)


DREAM_TEACHER = dict(
    type='repfusion_mm.SumLoss',
    losses=[
        dict(DENSE_HINT, loss_weight=3.0),
        dict(type='repfusion_mm.AttentionTransferLoss'),
    ],
)


def test_parts_and_levels_are_logged_as_shares_of_the_loss():
    model = build(distill_loss=DREAM_TEACHER, layer_weights=[1, 2.0, 0.5])
    compared = []
    model.distill_loss.parts['hint'].register_forward_pre_hook(
        lambda module, maps: compared.append(maps)
    )
    losses = losses_of(model)
    hint = [3 * (ours - theirs).square().mean() for ours, theirs in compared]
    attention = [AttentionTransferLoss()(*maps) for maps in compared]
    expected = {
        'distill_level_0': hint[0] + attention[0],
        'distill_level_1': 2 * (hint[1] + attention[1]),
        'distill_level_2': 0.5 * (hint[2] + attention[2]),
        'distill_hint': hint[0] + 2 * hint[1] + 0.5 * hint[2],
        'distill_attention_transfer': (
            attention[0] + 2 * attention[1] + 0.5 * attention[2]
        ),
    }
    assert {k for k in losses if k.startswith('distill_')} == {*expected}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value.detach())
        assert not losses[name].requires_grad
    parts = losses['distill_hint'] + losses['distill_attention_transfer']
    torch.testing.assert_close(losses['loss_distill'].detach(), parts)
    total, _ = model.parse_losses(losses)  # adds no part twice
    names = ('loss_distill', 'loss_decoder', 'loss_policy')
    torch.testing.assert_close(total, sum(losses[name] for name in names))


def test_the_explained_variance_is_that_of_the_squared_error_alone():
    """Whatever the weights of layers and parts are."""
    model = build(distill_loss=DREAM_TEACHER, layer_weights=[1, 2.0, 0.5])
    model.eval()
    compared = []
    model.distill_loss.parts['hint'].register_forward_pre_hook(
        lambda module, maps: compared.append(maps)
    )
    losses = losses_of(model)
    error = sum((ours - feat).square().mean() for ours, feat in compared)
    constant = sum(HintLoss(False).constant_loss(f) for _, f in compared)
    torch.testing.assert_close(
        losses['explained_variance'], (1 - error / constant).detach()
    )
    two = dict(DREAM_TEACHER, losses=[DENSE_HINT, DENSE_HINT])
    losses = losses_of(build(distill_loss=two))
    assert 'explained_variance' not in losses
    torch.testing.assert_close(
        losses['distill_hint'], losses['distill_hint_2']
    )


def test_a_part_without_a_connector_compares_the_connected_map():
    loss = dict(
        type='repfusion_mm.SumLoss',
        losses=[DENSE_HINT, dict(type='repfusion_mm.TokenRelationLoss')],
    )
    model = build(distill_loss=loss)
    compared = []
    model.distill_loss.parts['token_relation'].register_forward_pre_hook(
        lambda module, maps: compared.append(maps)
    )
    losses_of(model)
    for ours, theirs in compared:
        assert ours.shape == theirs.shape


def test_weights_of_layers_are_1_by_default():
    torch.manual_seed(0)
    model = build(policy=dict(type='repfusion_mm.FixedTimestepPolicy'))
    data = batch(size=32)
    losses = losses_of(model, data)
    levels = [losses[f'distill_level_{i}'] for i in range(3)]
    model.layer_weights = [4, 4, 4]
    torch.testing.assert_close(losses['loss_distill'], sum(levels))
    torch.testing.assert_close(
        losses_of(model, data)['loss_distill'], 4 * sum(levels)
    )


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
        (dict(decoder_layers='both'), r"\('last', 'all'\), got 'both'; corr"),
        (
            dict(
                decoder_layers='all',
                decoder=None,
                policy=dict(type='repfusion_mm.UniformTimestepPolicy'),
            ),
            "got none; remove model.decoder_layers='all', or add",
        ),
        (
            dict(layer_weights=[1, 2]),
            r'layer_weights to be a list of 3, .* got \[1, 2\]; correct it',
        ),
        (
            dict(layer_weights=[1, 2, 0]),
            'each of model.layer_weights to be a number above 0, got 0',
        ),
        (
            dict(
                connector=None,
                distill_loss=dict(
                    DREAM_TEACHER,
                    losses=DREAM_TEACHER['losses']
                    + [dict(type='repfusion_mm.CosineHintLoss')],
                ),
                normalizer='phi_s',
            ),
            "compare both; set model.normalizer='none'$",
        ),
        (dict(connector=dict(REGRESSOR, channels=0)), 'got 0; correct it'),
        # Settings of layers, whose own errors do not name the setting.
        *(
            (
                dict(connector=dict(REGRESSOR, norm_cfg=norm_cfg)),
                f'(?s)expected .*{message}.*; correct ',
            )
            for norm_cfg, message in (
                ('GN', "norm_cfg to be .*got 'GN'"),
                (dict(type='BNN'), 'norm_cfg to be .*BNN'),
                (dict(type='GN', num_groups=7), 'ValueError: .*divisible'),
                (dict(type='GN', num_groups=0), 'ZeroDivisionError: '),
                (dict(type='GN'), "AssertionError: assert 'num_groups' in"),
                (dict(type='LN'), 'run on maps .*: .*normalized_shape'),
                (dict(type='IN'), 'run on maps .*: .*more than 1 spatial'),
            )
        ),
        (
            dict(connector=dict(type='repfusion_mm.SegDecoder')),
            'got TypeError: .*; correct its',
        ),
        (
            dict(connector=dict(REGRESSOR, pool_scales=(0,))),
            '^expected each of model.connector.pool_scales .* correct it$',
        ),
        (
            dict(connector=dict(REGRESSOR, in_shapes=[(1, 2, 2)])),
            'no in_shapes in model.connector, .*; remove them',
        ),
        (dict(connector=[REGRESSOR]), 'as type, got .*; correct it'),
        (dict(connector='FPN'), r"set dict\(type='FPN'\)"),
        (dict(student_indices=()), r'one integer or more, got \(\)'),
        (
            dict(
                decoder=dict(
                    type='repfusion_mm.ClsDecoder',
                    num_classes=3,
                    in_channels=5,
                )
            ),
            r'no model.decoder.in_channels, .* \(16\), got 5; remove it',
        ),
        (
            dict(connector=dict(type=KeepChannels)),
            r'map .* to \[8, 16, 16\] channels, got \[.*64\]; correct',
        ),
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
