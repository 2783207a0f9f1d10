# A small DDPM of CIFAR-10's training images, without labels, shipped as
# projects/cifar10/ddpm_cifar10.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/training_hooks.py',
    '../_base_/schedules/ddpm_small.py',
]

model = dict(
    type='repfusion_mm.DenoisingDiffusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
    ),
    # 2.8 M parameters. Attention would double the time of an iteration.
    denoiser=dict(
        type='UNet2DModel',
        sample_size=32,
        block_out_channels=(48, 96, 112),
        layers_per_block=1,
        norm_num_groups=16,
        add_attention=False,
        down_block_types=('DownBlock2D',) * 3,
        up_block_types=('UpBlock2D',) * 3,
    ),
    scheduler=dict(type='DDPMScheduler', num_train_timesteps=1000),
)
unlabeled = dict(
    type='repfusion_mm.ImageFolderDataset',
    data_root='data/cifar10_images',
    data_prefix='train',
    with_label=False,
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.RandomFlip', prob=0.5),
        dict(type='mmpretrain.PackInputs'),
    ],
)
train_dataloader = dict(batch_size=128, dataset=dict(datasets=[unlabeled]))
train_cfg = dict(max_iters=2500)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000))
