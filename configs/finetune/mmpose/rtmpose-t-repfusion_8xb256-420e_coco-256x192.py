# Finetune the student of
# configs/distill/repfusion-regressor_cspnext-tiny_coco.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpose::body_2d_keypoint/rtmpose/coco/'
    'rtmpose-t_8xb256-420e_coco-256x192.py'
]
auto_scale_lr = dict(base_batch_size=2048)  # 8 x 256; that of the base is 1024

model = dict(
    # BGR images, as the student was distilled. mmpose's config has RGB, but
    # so one student serves RTMDet and RTMPose.
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
    ),
    # The prefix in init_cfg is that of mmpose's config, 'backbone.'.
    backbone=dict(
        init_cfg=dict(
            _scope_='repfusion_mm',
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
