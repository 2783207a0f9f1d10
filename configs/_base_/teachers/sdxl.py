# Stable Diffusion XL (arXiv 2307.01952). License: CreativeML Open RAIL++-M.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='stabilityai/stable-diffusion-xl-base-1.0',
    # Generic Diffusion Feature (arXiv 2410.03558) uses transformer blocks 5
    # and 7 inside of it.
    layers=['up_blocks.0'],
    # 1024, the size of its training, has 16 times as many pixels.
    input_size=256,
)
teacher_size = 256
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=50)  # Generic Diffusion Feature
