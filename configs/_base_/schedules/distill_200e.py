# The paper's public code: SGD 0.1, step at 100 and 150 of 200 epochs, EMA
# 0.001. Policy and decoder have optimizers of their own, without weight decay.
optim_wrapper = dict(
    constructor='repfusion_mm.PartwiseOptimWrapperConstructor',
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
custom_hooks = [
    dict(type='EMAHook', momentum=0.001),
    dict(type='repfusion_mm.TimestepPolicyHook'),
    dict(type='repfusion_mm.ExportStudentHook'),
]
