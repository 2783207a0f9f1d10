# From-scratch twin: but for the initialisation, the -repfusion- config.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpose::face_2d_keypoint/topdown_heatmap/wflw/'
    'td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py'
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
    ),
    neck=None,
    head=dict(
        in_channels=2048,
        deconv_out_channels=(256, 256, 256),
        conv_out_channels=None,
        conv_kernel_sizes=None,
    ),
)
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=128)
