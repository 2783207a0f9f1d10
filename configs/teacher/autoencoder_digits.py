# The autoencoder of ddpm_latent_digits.py: 32 px to 4 x 8 x 8 latents.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/training_hooks.py',
    '../_base_/datasets/digits_32px.py',
    '../_base_/schedules/digits_40e.py',
]

model = dict(
    type='repfusion_mm.AutoencoderTraining',
    data_preprocessor=_base_.data_preprocessor,
    autoencoder=dict(
        type='AutoencoderKL',
        sample_size=_base_.image_size,
        latent_channels=4,
        block_out_channels=(8, 16, 32),
        down_block_types=('DownEncoderBlock2D',) * 3,
        up_block_types=('UpDecoderBlock2D',) * 3,
        norm_num_groups=4,
    ),
)

train_dataloader = dict(dataset=dict(datasets=[_base_.unlabeled]))

custom_hooks = [
    dict(type='EMAHook', momentum=0.01),
    dict(type='repfusion_mm.ReconstructImagesHook'),
    dict(type='repfusion_mm.ExportDiffusersHook', filename='vae'),
]
