# From-scratch twin: but for the initialisation, the -repfusion- config.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='repfusion_mm.MobileNetV2_CIFAR',
    ),
    head=dict(num_classes=10),
)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
)
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [dict(type='EMAHook', momentum=0.001)]
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=3))
