# ResNet-50 from four layers of the unconditional ADM of ImageNet at 256 pixels
# on the images of COCO, through a feature pyramid, no labels.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/coco.py',
    '../_base_/models/repfusion_regressor.py',
    '../_base_/teachers/adm256.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    student=dict(out_indices=(0, 1, 2, 3)),
    student_indices=(0, 1, 2, 3),
    # Maps of 64, 32, 16 and 8 pixels a side, as those of the student.
    teacher=dict(
        _base_.teacher,
        layers=['up_blocks.2', 'up_blocks.1', 'up_blocks.0', 'mid_block'],
    ),
    # Without labels there is no reward for a policy.
    policy=dict(type='repfusion_mm.UniformTimestepPolicy', **_base_.timesteps),
)
# Mixed precision needs a GPU; on a CPU set optim_wrapper.type=OptimWrapper.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    # Nothing to train.
    policy=None,
    decoder=None,
)
