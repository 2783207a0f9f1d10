# The digits at 32 px, for teachers that work on latents.
_base_ = ['./digits.py']
image_size = 32

unlabeled = dict(
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.Resize', scale=image_size),
        dict(type='mmpretrain.RandomCrop', crop_size=image_size, padding=2),
        dict(type='mmpretrain.PackInputs'),
    ],
)
