# The class-conditional ADM of ImageNet, 64 pixels (arXiv 2105.05233),
# converted by tools/model_converters/guided_diffusion_to_diffusers.py.
# License: MIT.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='data/teachers/imagenet64',
    # The layer of RepFusion's reference implementation.
    layers=['middle_block.2.out_layers.3'],
)
teacher_size = 64
# No published range, RepFusion learns the timestep: probe.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)
