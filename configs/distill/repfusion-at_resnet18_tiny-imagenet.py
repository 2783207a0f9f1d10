# ResNet-18 on Tiny-ImageNet by attention transfer.
_base_ = ['./repfusion_resnet18_tiny-imagenet.py']

model = dict(
    distill_loss=dict(
        _delete_=True, type='repfusion_mm.AttentionTransferLoss'
    ),
)
