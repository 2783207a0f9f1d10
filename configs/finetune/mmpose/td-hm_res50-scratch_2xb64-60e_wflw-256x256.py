# Train from scratch: the -repfusion config without its init_cfg. init_cfg=None
# would also replace the backbone's own default initialization.
_base_ = ['./td-hm_res50-repfusion_2xb64-60e_wflw-256x256.py']

model = dict(
    backbone=dict(
        {k: v for k, v in _base_.model.backbone.items() if k != 'init_cfg'},
        _delete_=True,
    )
)
