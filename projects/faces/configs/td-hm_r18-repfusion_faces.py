# Finetune the student of projects/faces/configs/repfusion_resnet18_faces.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = ['mmpose::_base_/default_runtime.py']

codec = dict(
    type='UDPHeatmap',
    input_size=(64, 64),
    heatmap_size=(32, 32),
    sigma=1,
    blur_kernel_size=5,
)
model = dict(
    type='TopdownPoseEstimator',
    # Normalized as in the distillation.
    data_preprocessor=dict(
        type='PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=32,
        base_channels=32,
        strides=(1, 2, 1, 1),
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint='work_dirs/repfusion_resnet18_faces/student.pth',
        ),
    ),
    head=dict(
        type='HeatmapHead',
        in_channels=256,
        out_channels=68,
        deconv_out_channels=(64, 64),
        deconv_kernel_sizes=(4, 4),
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=codec,
    ),
    # mmpose computes it with numpy, which has no bfloat16 (--amp on a CPU).
    train_cfg=dict(compute_acc=False),
    test_cfg=dict(flip_test=False),
)

dataset = dict(
    type='Face300WDataset',
    data_root='data/facial_keypoints',
    data_mode='topdown',
)
# The bounding boxes include a margin.
center_scale = dict(type='GetBBoxCenterScale', padding=1.0)
affine = dict(type='TopdownAffine', input_size=(64, 64), use_udp=True)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,  # mmpose's tools set True by default
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    # Wrapper that seeds each batch, which ExactResumeHook requires.
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                ann_file='annotations/train.json',
                data_prefix=dict(img='images'),
                pipeline=[
                    dict(type='LoadImage'),
                    center_scale,
                    dict(type='RandomFlip', direction='horizontal'),
                    # About the 80 pixels of an image.
                    dict(
                        type='RandomBBoxTransform',
                        shift_factor=0.08,
                        scale_factor=(0.85, 1.15),
                        rotate_factor=15,
                    ),
                    affine,
                    dict(type='GenerateTarget', encoder=codec),
                    dict(type='PackPoseInputs'),
                ],
                **dataset,
            )
        ],
    ),
)
test_dataloader = val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/test.json',
        data_prefix=dict(img='images'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImage'),
            center_scale,
            affine,
            dict(type='PackPoseInputs'),
        ],
        **dataset,
    ),
)
# Divided by the distance of the outer corners of the eyes.
test_evaluator = val_evaluator = dict(
    type='NME', norm_mode='keypoint_distance', keypoint_indices=[36, 45]
)

train_cfg = dict(by_epoch=False, max_iters=800, val_interval=800)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False)
log_processor = dict(by_epoch=False)
# Hooks of this package: write checkpoints atomically, load strictly, resume
# exactly, save on SIGTERM, stop on NaN or Inf, and record versions. See
# docs/reliability.md.
default_hooks = dict(
    checkpoint=dict(
        type='repfusion_mm.SafeCheckpointHook', by_epoch=False, interval=-1
    ),
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
    logger=dict(type='repfusion_mm.ShortRunLoggerHook', interval=50),
)
