# A DDPM of 64 pixels without attention, small enough to be shipped.
model = dict(
    type='repfusion_mm.DenoisingDiffusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
    ),
    denoiser=dict(
        type='UNet2DModel',
        sample_size=64,
        block_out_channels=(32, 64, 96, 96),
        layers_per_block=1,
        norm_num_groups=16,
        add_attention=False,
        down_block_types=('DownBlock2D',) * 4,
        up_block_types=('UpBlock2D',) * 4,
    ),
    scheduler=dict(type='DDPMScheduler', num_train_timesteps=1000),
)
