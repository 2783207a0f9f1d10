# The paper's public code: step at 100 and 150 of 200 epochs, EMA 0.001.
_base_ = ['./distill_cosine.py']

param_scheduler = dict(
    student=dict(
        _delete_=True,
        type='MultiStepLR',
        by_epoch=True,
        milestones=[100, 150],
        gamma=0.1,
    )
)
train_cfg = dict(by_epoch=True, max_epochs=200)
custom_hooks = [
    dict(type='EMAHook', momentum=0.001),
    dict(type='repfusion_mm.TimestepPolicyHook'),
    dict(type='repfusion_mm.ExportStudentHook'),
]
