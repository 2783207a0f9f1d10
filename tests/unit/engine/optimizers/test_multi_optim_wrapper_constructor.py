import pytest
from mmengine.optim import build_optim_wrapper

from repfusion_mm.engine.optimizers import JointOptimWrapper
from tests.unit.engine.optimizers.test_joint_optim_wrapper import build, config


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
    ],
)  # fmt: skip
def test_invalid_optimizers_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(build(), config(**overrides))
