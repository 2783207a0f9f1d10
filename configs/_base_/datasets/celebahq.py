# CelebA-HQ without labels: only the training images of the split of
# CelebAMask-HQ. Lists by tools/dataset_converters/celebamask_hq.py.
data_preprocessor = dict(
    type='mmengine.ImgDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    # Workers send one tensor per batch, not one per image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='mmpretrain.CustomDataset',
                data_root='data/CelebAMask-HQ',
                data_prefix='CelebA-HQ-img',
                ann_file='splits/train_images.txt',
                with_label=False,
                pipeline=[
                    # cv2.IMREAD_REDUCED_COLOR_4: decodes 1024 pixels as 256.
                    dict(type='repfusion_mm.LoadImage', color_type=33),
                    dict(
                        type='mmpretrain.RandomFlip',
                        prob=0.5,
                        direction='horizontal',
                    ),
                    dict(type='mmpretrain.PackInputs'),
                ],
            )
        ],
    ),
)
