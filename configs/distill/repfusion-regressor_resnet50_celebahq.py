# ResNet-50 from four layers of the DDPM of CelebA-HQ at 256 pixels, through a
# feature pyramid; dense hint and attention transfer, as DreamTeacher (arXiv
# 2307.07487), no labels.
_base_ = ['./repfusion_resnet18_celebahq.py']

model = dict(
    student=dict(depth=50, out_indices=(0, 1, 2, 3)),
    student_indices=(0, 1, 2, 3),
    # Maps of 64, 32, 16 and 8 pixels a side, as those of the student.
    teacher=dict(
        layers=['up_blocks.2', 'up_blocks.1', 'up_blocks.0', 'mid_block']
    ),
    connector=dict(type='repfusion_mm.FeatureRegressor'),
    normalizer='standardize',
    distill_loss=dict(
        _delete_=True,
        type='repfusion_mm.SumLoss',
        losses=[
            dict(type='repfusion_mm.HintLoss', pooled=False),
            dict(type='repfusion_mm.AttentionTransferLoss'),
        ],
    ),
)
