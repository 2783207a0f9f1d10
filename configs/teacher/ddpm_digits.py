# A small DDPM of handwritten digits, shipped as projects/digits/ddpm_digits.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/training_hooks.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_40e.py',
]

model = dict(
    type='repfusion_mm.DenoisingDiffusion',
    data_preprocessor=_base_.data_preprocessor,
    denoiser=dict(
        type='UNet2DModel',
        sample_size=_base_.image_size,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'),
    ),
    scheduler=dict(type='DDPMScheduler', num_train_timesteps=1000),
)

train_dataloader = dict(dataset=dict(datasets=[_base_.unlabeled]))
train_cfg = dict(max_epochs=75)

custom_hooks = [
    dict(type='EMAHook', momentum=0.01),
    dict(type='repfusion_mm.SampleImagesHook'),
    dict(type='repfusion_mm.ExportDiffusersHook', dtype='float16'),
]
