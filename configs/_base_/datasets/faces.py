# Faces in crops of 80 pixels, by tools/dataset_converters/facial_keypoints.py.
# Random crops have the teacher's image size.
image_size = 64
data_root = 'data/facial_keypoints'

unlabeled = dict(
    type='repfusion_mm.ImageFolderDataset',
    data_root=data_root,
    data_prefix='images/train',
    with_label=False,
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.RandomCrop', crop_size=image_size),
        dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='mmpretrain.PackInputs'),
    ],
)
