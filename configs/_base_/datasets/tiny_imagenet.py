# Tiny-ImageNet. Lists by tools/dataset_converters/tiny_imagenet.py.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_dataloader = dict(
    batch_size=64,
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
                data_root='data/tiny-imagenet-200',
                ann_file='meta/train.txt',
                pipeline=[
                    dict(type='repfusion_mm.LoadImage'),
                    dict(type='mmpretrain.RandomResizedCrop', scale=64),
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
