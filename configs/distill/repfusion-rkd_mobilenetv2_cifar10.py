# MobileNetV2 for small images on CIFAR-10 by relational distillation.
_base_ = ['./repfusion_r18_cifar.py']

model = dict(
    student=dict(_delete_=True, type='repfusion_mm.MobileNetV2_CIFAR'),
    distill_loss=dict(_delete_=True, type='repfusion_mm.RelationalLoss'),
)
