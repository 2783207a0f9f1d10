# Train from scratch: the -repfusion config with init_cfg=None.
_base_ = ['./td-hm_hrnetv2-w18-repfusion_2xb128-60e_wflw-256x256.py']

model = dict(backbone=dict(init_cfg=None))
