# DINOv2 ViT-B/14 with registers (arXiv 2304.07193, 2309.16588), loaded by
# timm. License: Apache 2.0.
teacher = dict(
    type='repfusion_mm.TimmTeacher',
    model='vit_base_patch14_reg4_dinov2.lvd142m',
    # The patch tokens of the last block after the final normalization, which
    # the authors' code calls x_norm_patchtokens and AM-RADIO (arXiv
    # 2312.06709) reads. No published choice for other students: probe.
    layers=[-1],
    norm=True,
    # The side of most of its training, 16 x 16 patches; 518, that of the last
    # phase, costs six times as much.
    input_size=224,
)
teacher_size = 224
timesteps = dict(low=0, high=0)  # the only one
