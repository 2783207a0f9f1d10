# ResNet-18 on CIFAR-10 by attention transfer.
_base_ = ['./repfusion_r18_cifar.py']

model = dict(
    distill_loss=dict(
        _delete_=True, type='repfusion_mm.AttentionTransferLoss'
    ),
)
