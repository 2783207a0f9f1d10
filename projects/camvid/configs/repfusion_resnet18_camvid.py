# Distill the small DDPM of street scenes; few frames are labeled. The policy
# is rewarded by how well a decoder segments them.
_base_ = [
    '../../../configs/_base_/runtime/default_runtime.py',
    '../../../configs/_base_/runtime/distill_hooks.py',
    '../../../configs/_base_/datasets/camvid.py',
    '../../../configs/_base_/models/repfusion_dense.py',
    '../../../configs/_base_/schedules/distill_cosine.py',
]
default_scope = 'mmseg'

model = dict(
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(64, 64),
    ),
    # Maps of 1/8, as of the teacher's layer.
    student=dict(
        type='mmseg.ResNet',
        stem_channels=32,
        base_channels=32,
        strides=(1, 2, 1, 1),
        out_indices=(3,),
    ),
    # Shipped. Your own, trained by configs/teacher/ddpm_camvid.py, is in
    # work_dirs/ddpm_camvid/teacher.
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained='projects/camvid/ddpm_camvid',
        layers=['mid_block.resnets.1.conv2'],
    ),
    normalizer=dict(type='repfusion_mm.StandardizeNormalizer'),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.SegDecoder', num_classes=11),
)

# Half of each batch is drawn from the labeled frames.
labeled = dict(
    type='mmseg.BaseSegDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img_path='images/train', seg_map_path='labels/train'),
    ann_file='train.txt',
    img_suffix='.png',
    metainfo=_base_.metainfo,
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmseg.RandomCrop', crop_size=(64, 64)),
        dict(type='mmseg.RandomFlip', prob=0.5),
        dict(type='mmseg.PackSegInputs'),
    ],
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(
        type='repfusion_mm.ProportionalSampler',
        proportions=[1, 1],
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
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmcv.CenterCrop', crop_size=64),
        dict(type='mmseg.PackSegInputs'),
    ],
)

train_cfg = dict(by_epoch=False, max_iters=750)
param_scheduler = dict(
    student=dict(_delete_=True, type='CosineAnnealingLR', by_epoch=False)
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=-1))
log_processor = dict(by_epoch=False)
