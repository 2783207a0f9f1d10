# MobileNetV2 for small images on Tiny-ImageNet, hint loss.
_base_ = ['./repfusion_resnet18_tiny-imagenet.py']

model = dict(
    student=dict(_delete_=True, type='repfusion_mm.MobileNetV2_CIFAR'),
)
