# repfusion_r18_cifar.py, but batches are cropped and flipped on the device.
_base_ = ['./repfusion_r18_cifar.py']

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='repfusion_mm.BatchDataPreprocessor',
        mean=_base_.data_preprocessor.mean,
        std=_base_.data_preprocessor.std,
        augments=[
            dict(type='RandomCrop', size=(32, 32), padding=4),
            dict(type='RandomHorizontalFlip', p=0.5),
        ],
    ),
)
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                _base_.train_dataloader.dataset.datasets[0],
                pipeline=[dict(type='mmpretrain.PackInputs')],
            )
        ]
    ),
)
