# HRNet-W18 from the DDPM of CelebA-HQ at 256 pixels, dense L1 hint, no labels.
# The student is the backbone of mmpose's configs for WFLW: mmpretrain.HRNet
# has the same tensors, but upsamples maps by nearest neighbors.
_base_ = ['./repfusion_resnet18_celebahq.py']

model = dict(
    student=dict(
        _delete_=True,
        type='mmpose.HRNet',
        in_channels=3,
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block='BASIC',
                num_blocks=(4, 4),
                num_channels=(18, 36),
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block='BASIC',
                num_blocks=(4, 4, 4),
                num_channels=(18, 36, 72),
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block='BASIC',
                num_blocks=(4, 4, 4, 4),
                num_channels=(18, 36, 72, 144),
                multiscale_output=True,
            ),
            upsample=dict(mode='bilinear', align_corners=False),
        ),
        # mmpose's default is a normal distribution with std=0.001.
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ],
    ),
    distill_loss=dict(criterion='l1', loss_weight=10.0),
)
