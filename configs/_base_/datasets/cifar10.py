# CIFAR-10 as in the configs of mmpretrain, which loads it as RGB.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=False,
)
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    # Workers send one tensor per batch, not one per image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='mmpretrain.CIFAR10',
                data_root='data/cifar10',
                split='train',
                pipeline=[
                    dict(
                        type='mmpretrain.RandomCrop', crop_size=32, padding=4
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
