# Finetune the student of configs/distill/repfusion_hrnet-w18_celebahq.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpose::face_2d_keypoint/topdown_heatmap/wflw/'
    'td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint='work_dirs/repfusion_hrnet-w18_celebahq/student.pth',
        ),
    ),
)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=256)
