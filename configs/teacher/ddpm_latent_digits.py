# A small latent diffusion model of digits at 32 px: a U-Net on 4 x 8 x 8
# latents. Train configs/teacher/autoencoder_digits.py first.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/training_hooks.py',
    '../_base_/datasets/digits_32px.py',
    '../_base_/schedules/digits_40e.py',
]

model = dict(
    type='repfusion_mm.DenoisingDiffusion',
    data_preprocessor=_base_.data_preprocessor,
    vae='work_dirs/autoencoder_digits/vae',
    denoiser=dict(
        type='UNet2DModel',
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    ),
    scheduler=dict(
        type='DDPMScheduler', num_train_timesteps=1000, clip_sample=False
    ),
)

train_dataloader = dict(dataset=dict(datasets=[_base_.unlabeled]))

custom_hooks = [
    dict(type='EMAHook', momentum=0.01),
    dict(type='repfusion_mm.SampleImagesHook'),
    dict(type='repfusion_mm.ExportDiffusersHook'),
]
