# Stable Diffusion 3.5 medium (arXiv 2403.03206). License: Stability AI
# Community License, which you accept on the hub before the download.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='stabilityai/stable-diffusion-3.5-medium',
    # No published choice: probe. This is the middle of 24 blocks.
    layers=['transformer_blocks.11'],
    input_size=256,
)
teacher_size = 256
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)  # no published choice: probe
