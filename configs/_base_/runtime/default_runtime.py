# Environment, seed and logging of distillation and teacher training. The hooks
# are in distill_hooks.py and training_hooks.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# Each process samples its own timesteps.
randomness = dict(seed=0, diff_rank_seed=True)
log_level = 'INFO'
load_from = None
resume = False
