# PixArt-Sigma (arXiv 2403.04692). License: CreativeML Open RAIL++-M.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='PixArt-alpha/PixArt-Sigma-XL-2-1024-MS',
    # No published choice of layer and timesteps: probe. This is the middle of
    # 28 blocks, which is DDAE's choice for DiT.
    layers=['transformer_blocks.13'],
    # 1024, the size of its training, has 16 times as many pixels.
    input_size=256,
)
teacher_size = 256
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)
