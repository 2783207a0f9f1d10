# Train from scratch: the -repfusion config without its init_cfg. init_cfg=None
# would also replace the backbone's own default initialization.
_base_ = ['./faster-rcnn_r18-repfusion_fpn_1x_coco.py']

model = dict(
    backbone=dict(
        {k: v for k, v in _base_.model.backbone.items() if k != 'init_cfg'},
        _delete_=True,
    )
)
