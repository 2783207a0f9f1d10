# The unconditional ADM of ImageNet, 256 pixels (arXiv 2105.05233), converted
# by tools/model_converters/guided_diffusion_to_diffusers.py. License: MIT.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='data/teachers/imagenet256-uncond',
    # The layer of RepFusion's reference implementation. DreamTeacher (arXiv
    # 2307.07487) uses the decoder blocks 3, 6, 9 and 12.
    layers=['middle_block.2.out_layers.3'],
)
teacher_size = 256
# DreamTeacher uses 150 on ImageNet; from 50 to 350, its results on BDD100K
# differ by 1.1 box AP.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=350)
