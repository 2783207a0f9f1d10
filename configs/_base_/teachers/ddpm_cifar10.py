# The DDPM of CIFAR-10, 32 pixels.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='google/ddpm-cifar10-32',
    layers=['mid_block.resnets.1.conv2'],
)
