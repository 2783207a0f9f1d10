"""What the configs of several tests inherit: a student and its images."""

_base_ = [
    '../../configs/_base_/runtime/default_runtime.py',
    '../../configs/_base_/runtime/distill_hooks.py',
    '../../configs/_base_/schedules/distill_cosine.py',
]
model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[127.5] * 3,
        std=[127.5] * 3,
        bgr_to_rgb=True,
    ),
    student=dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        stem_channels=8,
        base_channels=8,
    ),
    distill_loss=dict(type='repfusion_mm.HintLoss'),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
