# Finetune the student of configs/distill/repfusion_mobilenetv2_cifar10.py.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        type='repfusion_mm.MobileNetV2_CIFAR',
        init_cfg=dict(
            type='Pretrained',
            _scope_='repfusion_mm',
            checkpoint='work_dirs/repfusion_mobilenetv2_cifar10/student.pth',
        ),
    ),
    head=dict(num_classes=10),
)
train_dataloader = dict(
    batch_size=64,
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    # Wrapper that seeds each batch, which ExactResumeHook requires.
    dataset=dict(
        _delete_=True,
        type='repfusion_mm.SeededConcatDataset',
        datasets=[_base_.train_dataloader.dataset],
    ),
)
optim_wrapper = dict(
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
)
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [dict(type='EMAHook', momentum=0.001)]
# Hooks of this package: write checkpoints atomically, load strictly, resume
# exactly, save on SIGTERM, stop on NaN or Inf, and record versions. See
# docs/reliability.md.
default_hooks = dict(
    checkpoint=dict(
        type='repfusion_mm.SafeCheckpointHook', interval=10, max_keep_ckpts=3
    ),
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
    logger=dict(type='repfusion_mm.ShortRunLoggerHook'),
)
