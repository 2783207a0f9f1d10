# The DDPM of CelebA-HQ, 256 pixels (arXiv 2006.11239). License: Apache 2.0.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='google/ddpm-ema-celebahq-256',
    # The layer of RepFusion's reference implementation.
    layers=['mid_block.resnets.1.conv2'],
)
teacher_size = 256
# No published range, RepFusion learns the timestep: probe. DreamTeacher (arXiv
# 2307.07487) uses t = 50 of an ADM of faces.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)
