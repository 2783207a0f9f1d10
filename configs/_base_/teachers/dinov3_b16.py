# DINOv3 ViT-B/16 (arXiv 2508.10104), loaded by timm. The weights are under the
# DINOv3 license, which you accept on the hub before the download.
teacher = dict(
    type='repfusion_mm.TimmTeacher',
    model='vit_base_patch16_dinov3.lvd1689m',
    # The patch tokens of the last block after the final normalization, as for
    # DINOv2. No published choice: probe.
    layers=[-1],
    norm=True,
    input_size=256,  # 16 x 16 patches
)
teacher_size = 256
timesteps = dict(low=0, high=0)  # the only one
