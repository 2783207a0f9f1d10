# repfusion_r18_tiny-imagenet.py, cropped and flipped as whole batches on the
# device.
_base_ = ['./repfusion_r18_tiny-imagenet.py']

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='repfusion_mm.BatchDataPreprocessor',
        mean=_base_.data_preprocessor.mean,
        std=_base_.data_preprocessor.std,
        bgr_to_rgb=True,
        augments=[
            # On the half-pixel grid, as OpenCV resizes.
            dict(type='RandomResizedCrop', size=(64, 64), align_corners=False),
            dict(type='RandomHorizontalFlip', p=0.5),
        ],
    ),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmpretrain.PackInputs'),
        ]
    ),
)
