# ResNet-18 for small images from the DDPM of CIFAR-10, hint loss.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/models/repfusion_cls.py',
    '../_base_/teachers/ddpm_cifar10.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    channel_order='rgb',
    teacher=_base_.teacher,
)
