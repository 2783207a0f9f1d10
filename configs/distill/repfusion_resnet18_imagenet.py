# ResNet-18 from the unconditional ADM of ImageNet at 256 pixels, hint loss.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/models/repfusion_cls.py',
    '../_base_/teachers/adm256.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    student=dict(type='mmpretrain.ResNet'),
    teacher=_base_.teacher,
    # Half the channels of the teacher, as for Tiny-ImageNet.
    decoder=dict(num_classes=1000, hidden_channels=(512, 512)),
)
# Mixed precision needs a GPU; on a CPU set optim_wrapper.type=OptimWrapper.
optim_wrapper = dict(type='AmpOptimWrapper')
