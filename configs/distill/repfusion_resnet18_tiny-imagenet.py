# ResNet-18 from the class-conditional ADM of ImageNet at 64 pixels, hint loss.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/models/repfusion_cls.py',
    '../_base_/teachers/adm64.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=_base_.teacher,
    decoder=dict(num_classes=200, hidden_channels=(384, 384)),
)
# Mixed precision needs a GPU; on a CPU set optim_wrapper.type=OptimWrapper.
# The loss scale is dynamic; in the reference implementation it is 512.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    student=dict(optimizer=dict(nesterov=True)),
)
