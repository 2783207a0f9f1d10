# ResNet-18; the hint loss compares the maps position by position.
model = dict(
    type='repfusion_mm.RepFusion',
    student=dict(type='mmpretrain.ResNet', depth=18),
    distill_loss=dict(type='repfusion_mm.HintLoss', pooled=False),
)
