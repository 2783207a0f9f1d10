# ResNet-18 from the DDPM of CelebA-HQ, rewarded by how well masks are read.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/distill_200e.py',
]
default_scope = 'mmseg'

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(256, 256),
    ),
    student=dict(type='mmseg.ResNet', depth=18),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained='google/ddpm-ema-celebahq-256',
        layers=['mid_block.resnets.1.conv2'],
    ),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.SegDecoder', num_classes=19),
    distill_loss=dict(type='repfusion_mm.HintLoss', pooled=False),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    drop_last=True,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='repfusion_mm.CelebAMaskHQDataset',
        data_root='data/CelebAMask-HQ',
        data_prefix=dict(img_path='CelebA-HQ-img', seg_map_path='label_maps'),
        ann_file='splits/train.txt',
        pipeline=[
            # 33 is cv2.IMREAD_REDUCED_COLOR_4: 1024 pixels decoded as 256.
            dict(type='mmcv.LoadImageFromFile', color_type=33),
            dict(type='mmseg.LoadAnnotations'),
            # For the label maps, which are of 512 pixels.
            dict(type='mmseg.Resize', scale=(256, 256)),
            dict(
                type='mmseg.RandomFlip',
                prob=0.5,
                swap_seg_labels=[(2, 3), (4, 5), (7, 8)],
            ),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
