# ResNet-18 from the DDPM of CelebA-HQ. The policy is rewarded by how well a
# decoder segments the faces.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/models/repfusion_dense.py',
    '../_base_/teachers/ddpm_celebahq.py',
    '../_base_/schedules/distill_200e.py',
]
default_scope = 'mmseg'

model = dict(
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(256, 256),
    ),
    student=dict(type='mmseg.ResNet'),
    teacher=_base_.teacher,
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.SegDecoder', num_classes=19),
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
                type='repfusion_mm.CelebAMaskHQDataset',
                data_root='data/CelebAMask-HQ',
                data_prefix=dict(
                    img_path='CelebA-HQ-img', seg_map_path='label_maps'
                ),
                ann_file='splits/train.txt',
                pipeline=[
                    # cv2.IMREAD_REDUCED_COLOR_4: decodes 1024 pixels as 256.
                    dict(type='mmcv.LoadImageFromFile', color_type=33),
                    dict(type='mmseg.LoadAnnotations'),
                    # Of the label maps, which have 512 pixels.
                    dict(type='mmseg.Resize', scale=(256, 256)),
                    dict(
                        type='mmseg.RandomFlip',
                        prob=0.5,
                        swap_seg_labels=[(2, 3), (4, 5), (7, 8)],
                    ),
                    dict(type='mmseg.PackSegInputs'),
                ],
            )
        ],
    ),
)
