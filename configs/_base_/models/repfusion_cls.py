# ResNet-18 for small images. The policy is rewarded by how well the class is
# predicted from the teacher's features; the hint loss compares pooled maps.
model = dict(
    type='repfusion_mm.RepFusion',
    student=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=10),
    distill_loss=dict(type='repfusion_mm.HintLoss'),
)
