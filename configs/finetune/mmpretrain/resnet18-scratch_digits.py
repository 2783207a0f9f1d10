# From-scratch twin: but for the initialisation, the -repfusion- config.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    head=dict(in_channels=128),
)

# The same normalisation as in the distillation.
data_preprocessor = dict(
    num_classes=10,
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,  # mmpretrain's tools set it
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data/digits',
        data_prefix='train',
        ann_file='train_50.txt',  # or train_20.txt, train_100.txt, train.txt
        pipeline=[
            dict(type='LoadImageFromFile'),
            # padding=1 shifts images by a pixel; README says what it changes.
            dict(type='RandomCrop', crop_size=16, padding=0),
            dict(type='PackInputs'),
        ],
    ),
)
test_dataloader = val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root='data/digits',
        data_prefix='test',
        ann_file='test.txt',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_evaluator = val_evaluator = dict(type='Accuracy', topk=1)

train_cfg = dict(by_epoch=False, max_iters=200, val_interval=200)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=200),
    logger=dict(interval=50),
)
