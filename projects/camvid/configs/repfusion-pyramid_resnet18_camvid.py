# Distill three layers of the small DDPM of street scenes through a feature
# pyramid; dense hint and attention transfer, as DreamTeacher (arXiv
# 2307.07487). Finetune it by the same configs.
_base_ = ['./repfusion_resnet18_camvid.py']

model = dict(
    student=dict(out_indices=(0, 1, 3)),
    student_indices=(0, 1, 2),
    # Maps of 1/4, 1/8 and 1/8, as those of the student.
    teacher=dict(
        layers=[
            'up_blocks.1.resnets.1',
            'up_blocks.0.resnets.1',
            'mid_block.resnets.1.conv2',
        ]
    ),
    connector=dict(type='repfusion_mm.FeatureRegressor', channels=64),
    distill_loss=dict(
        _delete_=True,
        type='repfusion_mm.SumLoss',
        losses=[
            dict(type='repfusion_mm.HintLoss', pooled=False),
            dict(type='repfusion_mm.AttentionTransferLoss', loss_weight=1000),
        ],
    ),
)
