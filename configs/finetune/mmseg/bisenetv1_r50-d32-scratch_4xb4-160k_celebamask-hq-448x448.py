# Train from scratch: the -repfusion config without its init_cfg. init_cfg=None
# would also replace the backbone's own default initialization.
_base_ = ['./bisenetv1_r50-d32-repfusion_4xb4-160k_celebamask-hq-448x448.py']

model = dict(
    backbone=dict(
        backbone_cfg=dict(
            {
                k: v
                for k, v in _base_.model.backbone.backbone_cfg.items()
                if k != 'init_cfg'
            },
            _delete_=True,
        )
    )
)
