# ResNet-18 from the DDPM of CelebA-HQ at 256 pixels, dense hint, no labels.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/celebahq.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=_base_.data_preprocessor,
    student=dict(type='mmpretrain.ResNet', depth=18),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained='google/ddpm-ema-celebahq-256',
        layers=['mid_block.resnets.1.conv2'],
    ),
    # As in the paper's public code; nothing rewards a policy here.
    policy=dict(type='repfusion_mm.FixedTimestepPolicy', timestep=0),
    distill_loss=dict(type='repfusion_mm.HintLoss', pooled=False),
)
