# Student, policy and decoder have an optimizer each; policy and decoder are
# trained without weight decay. The learning rate of the student decays along
# a cosine.
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
        type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True
    ),
    policy=[],
    decoder=[],
)
