# Finetune the student of
# projects/cifar10/configs/repfusion_resnet18_cifar10-images.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        stem_channels=16,
        base_channels=16,
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint=(
                'work_dirs/repfusion_resnet18_cifar10-images/student.pth'
            ),
        ),
    ),
    head=dict(in_channels=128),
)
# Normalized as in the distillation.
data_preprocessor = dict(
    num_classes=10,
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    to_rgb=True,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,  # mmpretrain's tools set True by default
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    # Wrapper that seeds each batch, which ExactResumeHook requires.
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='CustomDataset',
                data_root='data/cifar10_images',
                ann_file='train.txt',
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='RandomCrop', crop_size=32, padding=4),
                    dict(type='RandomFlip', prob=0.5),
                    dict(type='PackInputs'),
                ],
            )
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
        data_root='data/cifar10_images',
        ann_file='test.txt',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_evaluator = val_evaluator = dict(type='Accuracy', topk=1)

train_cfg = dict(by_epoch=False, max_iters=2000, val_interval=2000)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False)
# Hooks of this package: write checkpoints atomically, load strictly, resume
# exactly, save on SIGTERM, stop on NaN or Inf, and record versions. See
# docs/reliability.md.
default_hooks = dict(
    checkpoint=dict(
        type='repfusion_mm.SafeCheckpointHook', by_epoch=False, interval=2000
    ),
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
    logger=dict(type='repfusion_mm.ShortRunLoggerHook', interval=50),
)
