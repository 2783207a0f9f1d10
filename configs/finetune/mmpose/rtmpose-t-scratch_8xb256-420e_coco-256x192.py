# Train from scratch: the -repfusion config without its init_cfg. init_cfg=None
# would also replace the backbone's own default initialization.
_base_ = ['./rtmpose-t-repfusion_8xb256-420e_coco-256x192.py']

model = dict(
    backbone=dict(
        {k: v for k, v in _base_.model.backbone.items() if k != 'init_cfg'},
        _delete_=True,
    )
)
