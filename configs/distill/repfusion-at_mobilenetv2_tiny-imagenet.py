# MobileNetV2 for small images on Tiny-ImageNet by attention transfer.
_base_ = ['./repfusion_resnet18_tiny-imagenet.py']

model = dict(
    student=dict(_delete_=True, type='repfusion_mm.MobileNetV2_CIFAR'),
    distill_loss=dict(
        _delete_=True, type='repfusion_mm.AttentionTransferLoss'
    ),
)
