# Train from scratch: the -repfusion config with init_cfg=None, that is, with
# PyTorch's default initialization of convolutions. mmpose's default for HRNet
# (normal, standard deviation 0.001) would be used without init_cfg.
_base_ = ['./td-hm_hrnetv2-w18-repfusion_2xb128-60e_wflw-256x256.py']

model = dict(backbone=dict(init_cfg=None))
