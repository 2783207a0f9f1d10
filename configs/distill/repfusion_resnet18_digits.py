# The demo: distill the small DDPM of digits; few images are labeled.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/digits.py',
    '../_base_/models/repfusion_cls.py',
    '../_base_/schedules/distill_cosine.py',
]

# Shipped. A teacher of your own, trained by configs/teacher/ddpm_digits.py, is
# in work_dirs/ddpm_digits/teacher.
teacher_folder = 'projects/digits/ddpm_digits'

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    student=dict(stem_channels=16, base_channels=16),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=teacher_folder,
        layers=['mid_block.resnets.1.conv2'],
        # The evidence in projects/digits was measured in float32; on a CPU
        # bfloat16 is no faster for this model.
        dtype='float32',
    ),
    # Features of a teacher of your own may have any scale.
    normalizer=dict(type='repfusion_mm.StandardizeNormalizer'),
)

# Half of each batch is drawn from the labeled images.
labeled = dict(
    type='mmpretrain.CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    ann_file='train_50.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(
        type='repfusion_mm.ProportionalSampler',
        proportions=[1, 1],
        num_samples=1280,
    ),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[labeled, _base_.unlabeled],
    ),
)
# All labels; only tools/analysis_tools/probe_timesteps.py uses them.
probe_dataset = dict(
    type='mmpretrain.CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    ann_file='train.txt',
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.PackInputs'),
    ],
)
train_cfg = dict(by_epoch=True, max_epochs=20)

# With 0.1, as in the paper, the student needs twice the epochs.
optim_wrapper = dict(student=dict(optimizer=dict(lr=0.8)))
