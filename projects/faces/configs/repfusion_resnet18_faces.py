# Distill the small DDPM of faces; few faces are labeled. The policy is
# rewarded by how well a decoder locates the keypoints.
_base_ = [
    '../../../configs/_base_/runtime/default_runtime.py',
    '../../../configs/_base_/runtime/distill_hooks.py',
    '../../../configs/_base_/datasets/faces.py',
    '../../../configs/_base_/models/repfusion_dense.py',
    '../../../configs/_base_/schedules/distill_cosine.py',
]
default_scope = 'mmpose'

model = dict(
    data_preprocessor=dict(
        type='mmpose.PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    # With an output stride of 8, like the teacher's layer.
    student=dict(
        type='mmpose.ResNet',
        stem_channels=32,
        base_channels=32,
        strides=(1, 2, 1, 1),
    ),
    # Shipped. Your own, trained by configs/teacher/ddpm_faces.py, is in
    # work_dirs/ddpm_faces/teacher.
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained='projects/faces/ddpm_faces',
        layers=['mid_block.resnets.1.conv2'],
    ),
    normalizer=dict(type='repfusion_mm.StandardizeNormalizer'),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.KeypointDecoder', num_keypoints=68),
)

# Coordinates: the maxima of small heatmaps are not exact.
codec = dict(type='RegressionLabel', input_size=(64, 64))
labeled = dict(
    type='mmpose.Face300WDataset',
    data_root=_base_.data_root,
    ann_file='annotations/train.json',
    data_prefix=dict(img='images'),
    pipeline=[
        dict(type='mmpose.LoadImage'),
        # The bounding boxes include a margin.
        dict(type='mmpose.GetBBoxCenterScale', padding=1.0),
        dict(type='mmpose.RandomFlip', direction='horizontal'),
        # Fractions of the 80 pixels of a face.
        dict(
            type='mmpose.RandomBBoxTransform',
            shift_factor=0.08,
            scale_factor=(0.9, 1.1),
            rotate_prob=0,
        ),
        dict(type='mmpose.TopdownAffine', input_size=(64, 64)),
        dict(type='mmpose.GenerateTarget', encoder=codec),
        dict(type='mmpose.PackPoseInputs'),
    ],
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(
        type='repfusion_mm.ProportionalSampler',
        proportions=[1, 1],  # half of each batch is labeled
        num_samples=6400,
    ),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[labeled, _base_.unlabeled],
    ),
)
# Only tools/analysis_tools/probe_timesteps.py uses it.
probe_dataset = dict(
    labeled,
    pipeline=[
        dict(type='mmpose.LoadImage'),
        dict(type='mmpose.GetBBoxCenterScale', padding=1.0),
        dict(type='mmpose.TopdownAffine', input_size=(64, 64)),
        dict(type='mmpose.GenerateTarget', encoder=codec),
        dict(type='mmpose.PackPoseInputs'),
    ],
)

train_cfg = dict(by_epoch=False, max_iters=750)
param_scheduler = dict(
    student=dict(_delete_=True, type='CosineAnnealingLR', by_epoch=False)
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=-1))
log_processor = dict(by_epoch=False)
