# Finetune the student of configs/distill/repfusion_r18_imagenet.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint='work_dirs/repfusion_r18_imagenet/student.pth',
        ),
    ),
)
