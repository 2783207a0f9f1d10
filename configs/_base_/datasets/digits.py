# 1,797 handwritten digits, written by projects/digits/prepare_data.py.
image_size = 16
data_root = 'data/digits'

# The student gets RGB images; 8-bit values are normalized to [-1, 1].
data_preprocessor = dict(
    type='mmengine.ImgDataPreprocessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
)

train_pipeline = [
    dict(type='repfusion_mm.LoadImage'),
    dict(type='mmpretrain.RandomCrop', crop_size=image_size, padding=1),
    dict(type='mmpretrain.PackInputs'),
]

unlabeled = dict(
    type='mmpretrain.CustomDataset',
    data_root=data_root,
    data_prefix='train',
    with_label=False,
    pipeline=train_pipeline,
)
