# Finetune the student of configs/distill/repfusion_resnet50_celebahq.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmseg::_base_/models/bisenetv1_r18-d32.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_160k.py',
]

crop_size = (448, 448)
model = dict(
    data_preprocessor=dict(size=crop_size),
    # Four times the channels of ResNet-18, as in the r50 configs of mmseg.
    backbone=dict(
        context_channels=(512, 1024, 2048),
        spatial_channels=(256, 256, 256, 512),
        out_channels=1024,
        backbone_cfg=dict(
            depth=50,
            init_cfg=dict(
                type='Pretrained',
                _scope_='repfusion_mm',
                checkpoint='work_dirs/repfusion_resnet50_celebahq/student.pth',
            ),
        ),
    ),
    decode_head=dict(in_channels=1024, channels=1024),
    auxiliary_head=[
        dict(
            type='FCNHead',
            in_channels=512,
            in_index=index,
            channels=256,
            num_convs=1,
            num_classes=19,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            concat_input=False,
            align_corners=False,
            loss_decode=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
            ),
        )
        for index in (1, 2)
    ],
)

# Images are 1024 x 1024, label maps 512 x 512. color_type=17
# (cv2.IMREAD_REDUCED_COLOR_2) decodes the images at half their size.
load_image = dict(type='LoadImageFromFile', color_type=17)
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(512, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    # A flip swaps left and right brows, eyes and ears.
    dict(
        type='RandomFlip', prob=0.5, swap_seg_labels=[(2, 3), (4, 5), (7, 8)]
    ),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    load_image,
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='repfusion_mm.CelebAMaskHQDataset',
    data_root='data/CelebAMask-HQ',
    data_prefix=dict(img_path='CelebA-HQ-img', seg_map_path='label_maps'),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    # Wrapper that seeds each batch, which ExactResumeHook requires.
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                ann_file='splits/train.txt', pipeline=train_pipeline, **dataset
            )
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='splits/val.txt', pipeline=test_pipeline, **dataset),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='splits/test.txt', pipeline=test_pipeline, **dataset
    ),
)
test_evaluator = val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=0.0005)
)
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=1000),
    dict(
        type='PolyLR',
        eta_min=1e-4,
        power=0.9,
        begin=1000,
        end=160000,
        by_epoch=False,
    ),
]
# Hooks of this package: write checkpoints atomically, load strictly, resume
# exactly, save on SIGTERM, stop on NaN or Inf, and record versions. See
# docs/reliability.md.
default_hooks = dict(
    checkpoint=dict(type='repfusion_mm.SafeCheckpointHook'),
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
    logger=dict(type='repfusion_mm.ShortRunLoggerHook'),
)
