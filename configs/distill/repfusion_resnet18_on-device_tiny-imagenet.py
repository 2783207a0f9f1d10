# repfusion_resnet18_tiny-imagenet.py, but batches are cropped and flipped on
# the device.
_base_ = ['./repfusion_resnet18_tiny-imagenet.py']

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='repfusion_mm.BatchDataPreprocessor',
        mean=_base_.data_preprocessor.mean,
        std=_base_.data_preprocessor.std,
        bgr_to_rgb=True,
        augments=[
            # Sampled at half-pixel centers, as OpenCV resizes.
            dict(type='RandomResizedCrop', size=(64, 64), align_corners=False),
            dict(type='RandomHorizontalFlip', p=0.5),
        ],
    ),
)
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                _base_.train_dataloader.dataset.datasets[0],
                pipeline=[
                    dict(type='repfusion_mm.LoadImage'),
                    dict(type='mmpretrain.PackInputs'),
                ],
            )
        ]
    ),
)
