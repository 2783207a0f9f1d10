# ResNet-50 from the unconditional ADM of ImageNet at 256 pixels on the images
# of COCO, dense hint, no labels.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/coco.py',
    '../_base_/models/repfusion_dense.py',
    '../_base_/teachers/adm256.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    student=dict(depth=50),
    teacher=_base_.teacher,
    # Without labels there is no reward for a policy.
    policy=dict(type='repfusion_mm.UniformTimestepPolicy', **_base_.timesteps),
    normalizer=dict(type='repfusion_mm.StandardizeNormalizer'),
)
# Mixed precision needs a GPU; on a CPU set optim_wrapper.type=OptimWrapper.
optim_wrapper = dict(type='AmpOptimWrapper')
