# The class-conditional ADM of ImageNet, 64 pixels, converted by
# tools/model_converters/guided_diffusion_to_diffusers.py.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='data/teachers/imagenet64',
    layers=['middle_block.2.out_layers.3'],
)
