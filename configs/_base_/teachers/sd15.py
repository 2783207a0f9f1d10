# Stable Diffusion 1.5 (arXiv 2112.10752). License: CreativeML OpenRAIL-M.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='stable-diffusion-v1-5/stable-diffusion-v1-5',
    # Generic Diffusion Feature (arXiv 2410.03558) uses it among others;
    # sd-dino (arXiv 2305.15347) uses the decoder's layers 2, 5 and 8.
    layers=['up_blocks.1'],
    # 512, the size of its training, has 4 times as many pixels.
    input_size=256,
)
teacher_size = 256
# ODISE 0, VPD 1, Generic Diffusion Feature 50, sd-dino 100; CleanDIFT (arXiv
# 2412.03439) finds 100 for segmentation and 261 for matching.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=0, high=261)
