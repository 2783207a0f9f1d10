# The demo: distil the small DDPM of digits, few of which are labelled.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/distill_cosine.py',
]

# Shipped; one's own: work_dirs/ddpm_digits/teacher, by ddpm_digits.py.
teacher_folder = 'projects/digits/ddpm_digits'

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=_base_.data_preprocessor,
    student=dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        stem_channels=16,
        base_channels=16,
    ),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=teacher_folder,
        layers=['mid_block.resnets.1.conv2'],
        # As projects/digits was measured; bfloat16 is no faster here.
        dtype='float32',
    ),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=10),
    # The scale of one's own teacher's features is anything.
    distill_loss=dict(type='repfusion_mm.HintLoss', standardize=True),
)

# Half of each batch is drawn from the images whose labels may be seen.
labelled = dict(
    type='mmpretrain.CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    ann_file='train_50.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(
        type='repfusion_mm.ProportionalSampler',
        proportions=[1, 1],
        num_samples=1280,
    ),
    dataset=dict(type='ConcatDataset', datasets=[labelled, _base_.unlabelled]),
)
# All labels, for tools/analysis_tools/probe_timesteps.py alone.
probe_dataset = dict(
    type='mmpretrain.CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    ann_file='train.txt',
    pipeline=_base_.test_pipeline,
)
train_cfg = dict(by_epoch=True, max_epochs=20)

# 0.1, as in the paper, takes twice the epochs to fit the teacher.
optim_wrapper = dict(student=dict(optimizer=dict(lr=0.8)))
custom_hooks = [
    dict(type='repfusion_mm.TimestepPolicyHook'),
    dict(type='repfusion_mm.ExportStudentHook'),
]
