# Train a diffusion model on any folder of images: edit the settings at the top
# of this file.
data_root = 'data/mine'  # all images in it are used, labeled or not
image_size = 64  # side in pixels, a multiple of 8; smaller is much faster
# Size of the denoiser, and the time of an iteration of 64 images of 64 px
# (32 px) on one CPU thread, of which --amp saves 30 to 40%
# (docs/own_teacher.md has memory and FLOP):
#   'small'  2.6 M parameters, no attention   5.8 s (1.5 s)
#   'base'   27 M parameters                   45 s (10 s): use a GPU
size = 'small'
# Folder or hub id of a diffusion model to finetune, such as
# 'google/ddpm-cifar10-32', whose side image_size must be then. None: train
# one of `size` from random weights.
pretrained = None
batch_size = 64
# Stop when the sampled images look like yours. To train longer than this,
# raise it afterwards and add --resume.
max_iters = 100_000

_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/training_hooks.py',
]

model = dict(
    type='repfusion_mm.DenoisingDiffusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
    ),
)
if pretrained:
    model['denoiser'] = dict(pretrained=pretrained)
elif size == 'small':
    # As in _base_/models/ddpm_64px.py.
    model['denoiser'] = dict(
        block_out_channels=(32, 64, 96, 96),
        layers_per_block=1,
        norm_num_groups=16,
        add_attention=False,
        down_block_types=('DownBlock2D',) * 4,
        up_block_types=('UpBlock2D',) * 4,
    )
elif size == 'base':
    model['denoiser'] = dict(
        block_out_channels=(64, 128, 256, 256),
        down_block_types=('DownBlock2D',) * 2 + ('AttnDownBlock2D',) * 2,
        up_block_types=('AttnUpBlock2D',) * 2 + ('UpBlock2D',) * 2,
    )
else:
    raise ValueError(
        f"expected size='small' or 'base', got {size!r}; correct it"
    )
if not pretrained:
    if image_size not in range(8, 4096, 8):
        raise ValueError(
            'expected image_size to be a multiple of 8, as the denoiser '
            f'halves the side three times, got {image_size!r}; correct it'
        )
    model['denoiser'].update(type='UNet2DModel', sample_size=image_size)
    model['scheduler'] = dict(type='DDPMScheduler', num_train_timesteps=1000)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='repfusion_mm.ImageFolderDataset',
                data_root=data_root,
                with_label=False,
                pipeline=[
                    dict(type='repfusion_mm.LoadImage'),
                    dict(type='mmpretrain.ResizeEdge', scale=image_size),
                    dict(type='mmpretrain.RandomCrop', crop_size=image_size),
                    dict(type='mmpretrain.PackInputs'),
                ],
            )
        ],
    ),
)
train_cfg = dict(by_epoch=False, max_iters=max_iters)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2000))
log_processor = dict(by_epoch=False)
custom_hooks = [
    # Annealed: in a short run a constant momentum would keep much of the
    # random initialization.
    dict(
        type='EMAHook',
        ema_type='MomentumAnnealingEMA',
        momentum=1e-3,
        gamma=100,
    ),
    dict(type='repfusion_mm.SampleImagesHook', num_records=10),
    dict(type='repfusion_mm.ExportDiffusersHook'),
]
