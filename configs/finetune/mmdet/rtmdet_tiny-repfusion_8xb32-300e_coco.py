# Finetune the student of
# configs/distill/repfusion-regressor_cspnext-tiny_coco.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = ['mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py']
auto_scale_lr = dict(base_batch_size=256)  # 8 x 32; that of the base is 16

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            prefix='backbone.',
            checkpoint='work_dirs/repfusion-regressor_cspnext-tiny_coco/'
            'student.pth',
        ),
    ),
)
# ExactResumeHook seeds the batches. The dataset is not wrapped, because
# PipelineSwitchHook replaces its pipeline.
# Hooks of this package: write checkpoints atomically, load strictly, resume
# exactly, save on SIGTERM, stop on NaN or Inf, and record versions. See
# docs/reliability.md.
default_hooks = dict(
    checkpoint=dict(type='repfusion_mm.SafeCheckpointHook'),
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
    logger=dict(type='repfusion_mm.ShortRunLoggerHook'),
)
