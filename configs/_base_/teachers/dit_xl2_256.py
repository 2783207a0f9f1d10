# DiT-XL/2 of ImageNet, 256 pixels (arXiv 2212.09748), conditioned on no class.
# License: CC BY-NC 4.0, not for commercial use.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='facebook/DiT-XL-2-256',
    layers=['transformer_blocks.13'],  # DDAE (arXiv 2303.09769)
    input_size=256,
)
teacher_size = 256
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=81, high=121)  # DDAE: Tiny-ImageNet and CIFAR-10
