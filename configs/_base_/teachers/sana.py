# Sana 0.6B, 512 pixels (arXiv 2410.10629). It has a license of NVIDIA: check
# it. The text encoder, which is needed once, is Gemma 2, with its own license.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='Efficient-Large-Model/Sana_600M_512px_diffusers',
    # No published choice: probe. This is the first third of 28 blocks.
    layers=['transformer_blocks.9'],
    input_size=512,  # a latent pixel has 32: maps are 16 x 16
)
teacher_size = 512
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)  # no published choice: probe
