import pytest
from mmengine.optim import build_optim_wrapper

from repfusion_mm.engine.optimizers import JointOptimWrapper
from tests.unit.engine.optimizers.test_joint_optim_wrapper import build, config
from tests.unit.engine.preflight.test_frozen_layers import VIT


def test_each_part_has_its_own_optimizer():
    """The reference implementation has one SGD with lr=0.1 for all."""
    model = build()
    wrapper = build_optim_wrapper(model, config())
    sizes = {
        name: sum(p.numel() for p in part.optimizer.param_groups[0]['params'])
        for name, part in wrapper.items()
    }
    for name, part in model.optim_parts().items():
        assert sizes[name] == sum(p.numel() for p in part.parameters())
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())
    assert wrapper.get_lr()['student.lr'] == [0.1]
    assert wrapper.get_lr()['policy.lr'] == [1e-3]


def test_parts_without_parameters_get_no_optimizer():
    model = build(policy=dict(type='repfusion_mm.UniformTimestepPolicy'))
    wrapper = build_optim_wrapper(model, config())
    assert isinstance(wrapper, JointOptimWrapper)
    assert set(wrapper.keys()) == {'student', 'decoder'}


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(policy=None), 'an optimizer for the policy'),
        (dict(teacher=dict(optimizer=dict(type='SGD'))), r"\['teacher'\]"),
        (
            dict(policy=dict(
                optimizer=dict(type='Adam'), accumulative_counts=2
            )),
            'once for all parts',
        ),
        (
            dict(optimizer=dict(type='SGD', lr=0.1)),
            r"\['optimizer'\], .* set optim_wrapper\.student\.optimizer",
        ),
        (dict(lr=0.1), r"\['lr'\], which no part would read"),
        (dict(type='OptimWraper'), 'optim_wrapper.type to be'),
        (
            dict(decoder=dict(optimizer=dict(type='SGD', lr=1), momentum=1)),
            r"\['momentum'\]; .* in optim_wrapper\.decoder\.optimizer",
        ),
        (
            dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict()))),
            r"optim_wrapper\.paramwise_cfg\.custom_keys .*\['backbone'\]",
        ),
        (
            dict(paramwise_cfg=dict(bias_lr_mul=2)),
            r"bias_lr_mult.*\['bias_lr_mul'\]",
        ),
        (dict(clip_grad=dict(value=1)), "max_norm' in clip_grad"),
    ],
)  # fmt: skip
def test_invalid_optimizers_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(build(), config(**overrides))


def test_custom_keys_of_one_part_are_used():
    keys = dict(conv1=dict(lr_mult=0.5), absent=dict(lr_mult=0.1))
    cfg = config(paramwise_cfg=dict(custom_keys=keys), optimizer=None)
    wrapper = build_optim_wrapper(build(), cfg)
    student = dict(wrapper.items())['student']
    assert {group['lr'] for group in student.param_groups} == {0.1, 0.05}


MOBILENET = dict(type='repfusion_mm.MobileNetV2_CIFAR')


def test_the_rate_of_a_student_may_decay_by_layers():
    part = dict(
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    model = build(student=VIT)
    wrapper = build_optim_wrapper(model, config(student=part))
    student = dict(wrapper.items())['student']
    groups = student.optimizer.param_groups
    rates = {
        group['param_name']: group['lr']
        for group in groups
        if 'param_name' in group  # not mmengine's group of no parameter
    }
    assert rates['student.patch_embed.projection.weight'] == 0.125
    assert rates['student.layers.0.ln1.weight'] == 0.25
    assert rates['student.layers.1.ln1.weight'] == 0.5
    assert rates['connectors.0.conv.weight'] == 1.0
    with pytest.raises(ValueError, match=r'get_layer_depth .* MobileNetV2'):
        build_optim_wrapper(build(student=MOBILENET), config(student=part))
