# Data loader and schedule of the generative models of digits.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(type='repfusion_mm.SeededConcatDataset'),
)
train_cfg = dict(by_epoch=True, max_epochs=40)

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', begin=0, by_epoch=True,
         convert_to_iter_based=True),
]  # fmt: skip
