# ResNet-18 for CIFAR from the DDPM of CIFAR-10, hint loss.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=_base_.data_preprocessor,
    channel_order='rgb',
    student=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained='google/ddpm-cifar10-32',
        layers=['mid_block.resnets.1.conv2'],
    ),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=10),
    distill_loss=dict(type='repfusion_mm.HintLoss'),
)
