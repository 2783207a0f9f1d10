# ResNet-50; several stages learn from several layers through a feature pyramid
# by a dense hint and attention transfer, as DreamTeacher (arXiv 2307.07487).
model = dict(
    type='repfusion_mm.RepFusion',
    student=dict(type='mmpretrain.ResNet', depth=50),
    connector=dict(type='repfusion_mm.FeatureRegressor'),
    normalizer='standardize',
    distill_loss=dict(
        type='repfusion_mm.SumLoss',
        losses=[
            dict(type='repfusion_mm.HintLoss', pooled=False),
            dict(type='repfusion_mm.AttentionTransferLoss'),
        ],
    ),
)
