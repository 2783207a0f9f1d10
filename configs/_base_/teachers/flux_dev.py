# FLUX.1-dev, 12 billion parameters. License: FLUX.1 [dev] Non-Commercial,
# which you accept on the hub before the download.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='black-forest-labs/FLUX.1-dev',
    # DiTF (2025) uses block 28 (19 double ones come first) after its adaptive
    # normalization, and discards massive channels: see discard_massive in
    # docs/teachers.md.
    layers=['single_transformer_blocks.9.norm'],
    input_size=256,
)
teacher_size = 256
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=260, high=260)  # DiTF
