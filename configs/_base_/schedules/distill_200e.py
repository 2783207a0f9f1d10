# As for CIFAR-10 in the paper's reference implementation: 200 epochs, steps at
# epochs 100 and 150, exponential moving average with momentum 0.001.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='repfusion_mm.MultiOptimWrapperConstructor',
    student=dict(
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
    ),
    policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
    decoder=dict(optimizer=dict(type='Adam', lr=1e-3)),
)
param_scheduler = dict(
    student=dict(
        type='MultiStepLR', by_epoch=True, milestones=[100, 150], gamma=0.1
    ),
    policy=[],
    decoder=[],
)
train_cfg = dict(by_epoch=True, max_epochs=200)
custom_hooks = [dict(type='EMAHook', momentum=0.001)]
