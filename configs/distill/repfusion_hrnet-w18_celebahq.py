# HRNet-W18 from the DDPM of CelebA-HQ at 256 pixels, dense L1 hint, no labels.
_base_ = ['./repfusion_resnet18_celebahq.py']

model = dict(
    student=dict(_delete_=True, type='mmpretrain.HRNet', arch='w18'),
    distill_loss=dict(criterion='l1', loss_weight=10.0),
)
