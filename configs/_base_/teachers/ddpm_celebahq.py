# The DDPM of CelebA-HQ, 256 pixels.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='google/ddpm-ema-celebahq-256',
    layers=['mid_block.resnets.1.conv2'],
)
