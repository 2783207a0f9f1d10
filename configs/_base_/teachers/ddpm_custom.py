# The folder that configs/teacher/ddpm_custom.py writes, or the hub id of any
# diffusers model of RGB images. No published choice of layer and timesteps:
# probe.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='work_dirs/ddpm_custom/teacher',
    layers=['mid_block.resnets.1.conv2'],
)
teacher_size = 64  # the one that the denoiser is made for
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=50, high=400)
