# Self-supervised pretraining of the same student with mmpretrain's SimSiam,
# in the same time as the distillation.
_base_ = [
    '../../../configs/_base_/runtime/default_runtime.py',
    '../../../configs/_base_/runtime/training_hooks.py',
]
view = [
    dict(
        type='mmpretrain.RandomResizedCrop', scale=32,
        crop_ratio_range=(0.2, 1.0), backend='cv2',
    ),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(
        type='mmcv.RandomApply', prob=0.8,
        transforms=[
            dict(
                type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4,
                saturation=0.4, hue=0.1, backend='cv2',
            )
        ],
    ),
    dict(
        type='mmpretrain.RandomGrayscale', prob=0.2, keep_channels=True,
        channel_weights=(0.114, 0.587, 0.2989),
    ),
]  # fmt: skip

model = dict(
    type='mmpretrain.SimSiam',
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        stem_channels=16,
        base_channels=16,
    ),
    neck=dict(
        type='mmpretrain.NonLinearNeck', in_channels=128, hid_channels=512,
        out_channels=512, num_layers=2, with_last_bn_affine=False,
        with_last_bias=False, with_avg_pool=True,
    ),
    head=dict(
        type='mmpretrain.LatentPredictHead',
        loss=dict(type='mmpretrain.CosineSimilarityLoss'),
        predictor=dict(
            type='mmpretrain.NonLinearNeck', in_channels=512, hid_channels=128,
            out_channels=512, with_avg_pool=False, with_last_bn=False,
            with_last_bias=True,
        ),
    ),
)  # fmt: skip
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='mmpretrain.CustomDataset',
                data_root='data/cifar10_images',
                ann_file='train.txt',
                pipeline=[
                    dict(type='repfusion_mm.LoadImage'),
                    dict(
                        type='mmpretrain.MultiView',
                        num_views=2,
                        transforms=[view],
                    ),
                    dict(type='mmpretrain.PackInputs'),
                ],
            )
        ],
    ),
)
train_cfg = dict(by_epoch=False, max_iters=400)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.06, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=-1))
log_processor = dict(by_epoch=False)
