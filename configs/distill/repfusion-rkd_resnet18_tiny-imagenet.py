# ResNet-18 on Tiny-ImageNet by relational distillation.
_base_ = ['./repfusion_resnet18_tiny-imagenet.py']

model = dict(
    distill_loss=dict(_delete_=True, type='repfusion_mm.RelationalLoss'),
)
