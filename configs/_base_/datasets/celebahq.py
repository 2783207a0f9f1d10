# CelebA-HQ without labels, the training images of CelebAMask-HQ's split
# alone. Lists by tools/dataset_converters/celebamask_hq.py.
data_preprocessor = dict(
    type='mmengine.ImgDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    drop_last=True,
    persistent_workers=True,
    # Workers send one tensor for a batch, not one for each image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='data/CelebAMask-HQ',
        data_prefix='CelebA-HQ-img',
        ann_file='splits/train_images.txt',
        with_label=False,
        pipeline=[
            # 33 is cv2.IMREAD_REDUCED_COLOR_4: 1024 pixels decoded as 256.
            dict(type='repfusion_mm.LoadImage', color_type=33),
            dict(
                type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'
            ),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
