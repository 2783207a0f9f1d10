# The digits of digits.py at 32 px, for teachers that work on latents.
image_size = 32
data_root = 'data/digits'

data_preprocessor = dict(
    type='mmengine.ImgDataPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
)

unlabeled = dict(
    type='mmpretrain.CustomDataset',
    data_root=data_root,
    data_prefix='train',
    with_label=False,
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.Resize', scale=image_size),
        dict(type='mmpretrain.RandomCrop', crop_size=image_size, padding=2),
        dict(type='mmpretrain.PackInputs'),
    ],
)
