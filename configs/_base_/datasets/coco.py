# The images of COCO train2017 without labels, as 256 pixels, the image size of
# the teacher.
data_preprocessor = dict(
    type='mmengine.ImgDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    persistent_workers=True,
    # Workers send one tensor per batch, not one per image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='repfusion_mm.ImageFolderDataset',
                data_root='data/coco',
                data_prefix='train2017',
                with_label=False,
                pipeline=[
                    dict(type='repfusion_mm.LoadImage'),
                    dict(
                        type='mmpretrain.RandomResizedCrop',
                        scale=256,
                        crop_ratio_range=(0.5, 1.0),
                    ),
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
