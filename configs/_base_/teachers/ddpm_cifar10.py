# The DDPM of CIFAR-10, 32 pixels (arXiv 2006.11239). License: Apache 2.0.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='google/ddpm-cifar10-32',
    # The layer of RepFusion's reference implementation.
    layers=['mid_block.resnets.1.conv2'],
)
teacher_size = 32
# No published range, RepFusion learns the timestep: probe.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)
