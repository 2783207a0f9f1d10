import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.activation_checkpointing import (
    turn_on_activation_checkpointing,
)

from repfusion_mm.engine.checkpoint import StrictPretrained
from repfusion_mm.engine.checkpoint.behavior import (
    describe_behavior,
    find_changes,
)

RESNET = dict(
    type='mmpretrain.ResNet', depth=50, stem_channels=4, base_channels=4
)
STAGES = {
    f'stage{i}': dict(
        num_modules=1,
        num_branches=i,
        block='BOTTLENECK' if i == 1 else 'BASIC',
        num_blocks=(1,) * i,
        num_channels=(4, 8, 16, 32)[:i],
    )
    for i in range(1, 5)
}
STAGES['stage4']['multiscale_output'] = True
BILINEAR = dict(STAGES, upsample=dict(mode='bilinear', align_corners=False))
HRNET = dict(type='mmpose.HRNet', extra=STAGES)
VIT = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
    ),
    img_size=64,
    patch_size=16,
    out_type='featmap',
)


def load(path, distilled, finetuned, **arguments):
    torch.manual_seed(0)
    student = MODELS.build(distilled)
    student.init_weights()
    for module in student.modules():
        if hasattr(module, 'running_var'):  # zero in some residual branches
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    weights = student.state_dict()
    meta = dict(behavior=describe_behavior(student, weights, 64))
    torch.save(dict(state_dict=weights, meta=meta), path)
    backbone = MODELS.build(finetuned)
    StrictPretrained(str(path), **arguments)(backbone)
    return student, backbone


@pytest.mark.parametrize(
    ('distilled', 'finetuned', 'change'),
    [
        (HRNET, dict(HRNET, extra=BILINEAR), "mode: distilled with 'nearest'"),
        (
            dict(HRNET, type='mmpretrain.HRNet'),
            dict(HRNET, type='mmseg.HRNet'),
            "mode: distilled with 'nearest', got 'bilinear' in 10 layers",
        ),
        (
            RESNET,
            dict(RESNET, style='caffe'),
            r'stride: distilled with \[1, 1\], got \[2, 2\] in 3 layers',
        ),
        (
            RESNET,
            dict(RESNET, norm_cfg=dict(type='BN', eps=1e-2)),
            'eps: distilled with 1e-05, got 0.01',
        ),
        (
            dict(type='mmpretrain.MobileNetV2', widen_factor=0.25),
            dict(
                type='mmpretrain.MobileNetV2',
                widen_factor=0.25,
                act_cfg=dict(type='ReLU'),
            ),
            "type: distilled with 'ReLU6', got 'ReLU'",
        ),
        (
            VIT,
            dict(VIT, arch=dict(VIT['arch'], num_heads=4)),
            'num_heads: distilled with 2, got 4',
        ),
    ],
)
def test_another_function_of_the_same_weights_is_refused(
    tmp_path, distilled, finetuned, change
):
    path = tmp_path / 'student.pth'
    with pytest.raises(ValueError, match=change):
        load(path, distilled, finetuned)
    load(path, distilled, finetuned, allow_changes=True)


@pytest.mark.parametrize(
    ('distilled', 'finetuned'),
    [
        (RESNET, dict(RESNET, type='mmseg.ResNet', out_indices=(0, 1, 2, 3))),
        # A network for segmentation: the deeper maps have other shapes.
        (
            dict(RESNET, out_indices=(0, 1, 2, 3)),
            dict(
                RESNET, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4),
                out_indices=(0, 1, 2, 3),
            ),
        ),
        # Of detection.
        (RESNET, dict(RESNET, type='mmdet.ResNet', frozen_stages=1,
                      norm_eval=True, with_cp=True)),
        (dict(HRNET, extra=BILINEAR), dict(HRNET, type='mmseg.HRNet')),
        (VIT, dict(VIT, out_indices=(0, 1), drop_path_rate=0.1)),
        (VIT, dict(VIT, out_type='cls_token')),
    ],
)  # fmt: skip
def test_backbones_that_compute_the_same_maps_load(
    tmp_path, log, distilled, finetuned
):
    student, backbone = load(tmp_path / 'student.pth', distilled, finetuned)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, student.state_dict()[key]), key
    assert 'settings differ' not in log.text


def test_the_comparison_changes_nothing():
    net = MODELS.build(dict(RESNET, norm_eval=True))
    modes = [module.training for module in net.modules()]
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    behavior = describe_behavior(net, weights, 64)
    assert [o['shape'] for o in behavior['outputs']] == [[2, 128, 2, 2]]
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net.modules()] == modes
    for key, value in net.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_activation_checkpointing_changes_nothing():
    """It replaces forward by a function of the original module."""
    net = MODELS.build(RESNET)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    recorded = describe_behavior(net, weights, 32)
    turn_on_activation_checkpointing(net, ['layer1'])
    assert find_changes(recorded, net, weights) == []
    for key, value in net.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_a_forward_of_the_own_class_is_kept():
    class Chosen(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.forward = self.double

        def double(self, x):
            return 2 * x

    behavior = describe_behavior(Chosen(), {}, 8)
    assert behavior['outputs'][0]['shape'] == [2, 3, 8, 8]


def test_biases_that_are_cached_in_eval_mode_are_those_of_the_weights():
    config = dict(
        type='mmpretrain.TinyViT',
        arch=dict(channels=[8] * 4, num_heads=[1] * 4, depths=[1] * 4),
        img_size=(64, 64),
        gap_before_final_norm=False,
    )
    initial, trained = MODELS.build(config), MODELS.build(config)
    for name, parameter in trained.named_parameters():
        if name.endswith('attention_biases'):
            torch.nn.init.normal_(parameter, std=5)
    weights = trained.state_dict()
    recorded = describe_behavior(trained, weights, 64)
    assert recorded['outputs']
    assert find_changes(recorded, initial, weights) == []


DILATED = dict(
    RESNET, type='mmseg.ResNet', strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(style='caffe'), "style: distilled with 'pytorch', got 'caffe'"),
        (dict(norm_cfg=dict(type='BN', eps=1e-2)), 'eps: distilled'),
        (dict(norm_eval=True, frozen_stages=1, with_cp=True), None),
        (dict(norm_cfg=dict(type='SyncBN')), None),
    ],
)
def test_without_a_common_shape_settings_are_compared(
    change, message, tmp_path, log
):
    """The student returns its last map, which the dilated one lacks."""
    path, backbone = tmp_path / 'student.pth', dict(DILATED, **change)
    arguments = dict(out_indices=(3,))
    if message is None:
        load(path, dict(RESNET), dict(backbone, **arguments))
    else:
        with pytest.raises(ValueError, match=message) as error:
            load(path, dict(RESNET), dict(backbone, **arguments))
        assert 'frozen_stages' not in str(error.value)
    assert 'outputs are not compared' in log.text


def test_the_style_of_basic_blocks_changes_nothing(tmp_path):
    load(
        tmp_path / 'student.pth',
        dict(RESNET, depth=18),
        dict(DILATED, depth=18, style='caffe', out_indices=(3,)),
    )


def test_with_resized_embeddings_settings_are_compared(tmp_path):
    path, larger = tmp_path / 'student.pth', dict(VIT, img_size=128)
    load(path, VIT, larger)
    heads = dict(larger, arch=dict(VIT['arch'], num_heads=4))
    with pytest.raises(ValueError, match='num_heads: distilled with 2, got 4'):
        load(path, VIT, heads)


def test_outputs_that_overflow_are_compared_too():
    net = torch.nn.Conv2d(3, 2, 1)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    weights['weight'][0] = 1e38
    recorded = describe_behavior(net, weights, 8)
    assert not recorded['outputs'][0]['values'].isfinite().all()
    assert find_changes(recorded, net, weights) == []
    weights['weight'][1] *= 1.1
    assert 'differs by' in find_changes(recorded, net, weights)[0]
    weights['weight'][1] *= 1e12
    assert 'differs by a factor of ' in find_changes(recorded, net, weights)[0]


def test_small_differences_are_not_shown_as_zero():
    net = torch.nn.Conv2d(3, 2, 1)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    recorded = describe_behavior(net, weights, 8)
    scaled = {k: v * 1.0003 for k, v in weights.items()}
    assert 'differs by 0.03%' in find_changes(recorded, net, scaled)[0]


class Scaled(torch.nn.Sequential):
    """A residual branch with the initial layer scale of a ConvNeXt."""

    def forward(self, x):
        return x + 1e-6 * super().forward(x)


@pytest.mark.parametrize(
    ('kind', 'before', 'after', 'said'),
    [
        (
            torch.nn.Sequential,
            torch.nn.MaxPool2d(2),
            torch.nn.MaxPool2d(2, ceil_mode=True),
            'ceil_mode: distilled with False, got True in 1 layers',
        ),
        (
            Scaled,
            torch.nn.GELU(),
            torch.nn.ReLU(),
            "type: distilled with 'GELU', got 'ReLU'",
        ),
        (
            Scaled,
            torch.nn.Conv2d(3, 3, 3, padding=1),
            torch.nn.Conv2d(3, 3, 3, padding=1, padding_mode='reflect'),
            "padding_mode: distilled with 'zeros', got 'reflect'",
        ),
        (
            torch.nn.Sequential,
            torch.nn.Dropout(0.1),
            torch.nn.Dropout(0.2),
            '',
        ),
    ],
)
def test_settings_that_differ_while_outputs_agree_are_logged(
    log, kind, before, after, said
):
    recorded = describe_behavior(kind(before), {}, 8)
    net = kind(after)
    net.load_state_dict(kind(before).state_dict())
    assert find_changes(recorded, net, {}) == []
    assert said in log.text
    assert ('settings differ' in log.text) == bool(said)


class Power(torch.nn.Module):
    """The part of ``GeneralizedMeanPooling`` that depends on ``p``."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return x.clamp(min=1e-6) ** self.p


def test_the_exponent_of_a_pooling_layer_is_a_setting():
    recorded = describe_behavior(Power(3.0), {}, 8)
    found = find_changes(recorded, Power(2.0), {})
    assert 'p: distilled with 3.0, got 2.0' in found[1]
