# ResNet-50 from the DDPM of CelebA-HQ. The policy is rewarded by how well a
# decoder locates the keypoints.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/models/repfusion_dense.py',
    '../_base_/teachers/ddpm_celebahq.py',
    '../_base_/schedules/distill_200e.py',
]
default_scope = 'mmpose'

codec = dict(
    type='mmpose.MSRAHeatmap',
    input_size=(256, 256),
    heatmap_size=(64, 64),
    sigma=2,
)
model = dict(
    data_preprocessor=dict(
        type='mmpose.PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    student=dict(type='mmpose.ResNet', depth=50),
    teacher=_base_.teacher,
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.KeypointDecoder', num_keypoints=98),
    distill_loss=dict(criterion='l1', loss_weight=10.0),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='mmpose.WFLWDataset',
                data_root='data/wflw/',
                ann_file='annotations/face_landmarks_wflw_train.json',
                data_prefix=dict(img='images/'),
                pipeline=[
                    dict(type='mmpose.LoadImage'),
                    dict(type='mmpose.GetBBoxCenterScale'),
                    dict(type='mmpose.RandomFlip', direction='horizontal'),
                    dict(
                        type='mmpose.RandomBBoxTransform',
                        shift_prob=0,
                        rotate_factor=60,
                        scale_factor=(0.75, 1.25),
                    ),
                    dict(type='mmpose.TopdownAffine', input_size=(256, 256)),
                    dict(type='mmpose.GenerateTarget', encoder=codec),
                    dict(type='mmpose.PackPoseInputs'),
                ],
            )
        ],
    ),
)
