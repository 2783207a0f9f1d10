# Data loader, schedule and hooks of the shipped models of photographs.
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(type='repfusion_mm.SeededConcatDataset'),
)
train_cfg = dict(by_epoch=False, max_iters=3000)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=500),
    dict(type='CosineAnnealingLR', by_epoch=False),
]
log_processor = dict(by_epoch=False)
custom_hooks = [
    # Annealed: in a short run a constant momentum would keep much of the
    # random initialization.
    dict(
        type='EMAHook',
        ema_type='MomentumAnnealingEMA',
        momentum=1e-3,
        gamma=100,
    ),
    dict(type='repfusion_mm.SampleImagesHook', num_records=10),
    dict(type='repfusion_mm.ExportDiffusersHook', dtype='float16'),
]
