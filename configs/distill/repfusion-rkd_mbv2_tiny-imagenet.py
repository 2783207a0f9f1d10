# MobileNetV2 on Tiny-ImageNet by relational distillation.
_base_ = ['./repfusion_mbv2_tiny-imagenet.py']

model = dict(
    distill_loss=dict(_delete_=True, type='repfusion_mm.RelationalLoss'),
)
