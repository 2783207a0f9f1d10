# ImageNet as in the configs of mmpretrain, but with 256 pixels, the image size
# of the teacher.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    persistent_workers=True,
    # Workers send one tensor per batch, not one per image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    # Wrapper that seeds each batch, which ExactResumeHook requires.
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='mmpretrain.ImageNet',
                data_root='data/imagenet',
                split='train',
                pipeline=[
                    dict(type='repfusion_mm.LoadImage'),
                    dict(type='mmpretrain.RandomResizedCrop', scale=256),
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
