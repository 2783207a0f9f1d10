# Finetune the student of configs/distill/repfusion-regressor_resnet18_coco.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(
        depth=18,
        # All layers are trained, with statistics of the detector's images.
        # frozen_stages=0, as in mmdet's configs for self-supervised weights,
        # would freeze the stem, which is random in the -scratch config.
        frozen_stages=-1,
        norm_cfg=dict(type='SyncBN'),
        norm_eval=False,
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint='work_dirs/repfusion-regressor_resnet18_coco/'
            'student.pth',
        ),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
# ExactResumeHook seeds the batches of mmdet's AspectRatioBatchSampler.
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
