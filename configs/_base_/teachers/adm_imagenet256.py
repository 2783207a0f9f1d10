# The unconditional ADM of ImageNet, 256 pixels, converted by
# tools/model_converters/guided_diffusion_to_diffusers.py.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='data/teachers/imagenet256-uncond',
    layers=['middle_block.2.out_layers.3'],
)
