# Finetune the student of configs/distill/repfusion_hrnet-w18_celebahq.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpose::face_2d_keypoint/topdown_heatmap/wflw/'
    'td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py'
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint='work_dirs/repfusion_hrnet-w18_celebahq/student.pth',
        ),
    ),
)
train_dataloader = dict(
    batch_size=128,
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    # Wrapper that seeds each batch, which ExactResumeHook requires.
    dataset=dict(
        _delete_=True,
        type='repfusion_mm.SeededConcatDataset',
        datasets=[_base_.train_dataloader.dataset],
    ),
)
# 2 GPUs x 128 images, at the learning rate of the base config.
auto_scale_lr = dict(base_batch_size=256)
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
