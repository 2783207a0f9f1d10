# Distil on any folder of images. Edit these; the rest follows.
data_root = 'data/mine'
# 'folders': each sub-folder is a class. 'some.txt': a file in data_root with a
# line "path label" for each labelled image, the others count as unlabelled.
# None: there are none, and timesteps are drawn uniformly from `timesteps`.
labels = 'labels.txt'
num_classes = 10
timesteps = dict(low=50, high=400)
# One's own, by ddpm_custom.py, or the hub id of any RGB denoiser, whose
# image_size this must be then.
teacher = 'work_dirs/ddpm_custom/teacher'
image_size = 64
student = dict(type='mmpretrain.ResNet', depth=18)
batch_size = 64
max_epochs = 200

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/distill_cosine.py',
]

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    student=student,
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=teacher,
        layers=['mid_block.resnets.1.conv2'],
    ),
    # The scale of a teacher's features is anything.
    distill_loss=dict(type='repfusion_mm.HintLoss', standardize=True),
)
if labels:
    model['policy'] = dict(type='repfusion_mm.LearnedTimestepPolicy')
    model['decoder'] = dict(
        type='repfusion_mm.ClsDecoder', num_classes=num_classes
    )
else:
    model['policy'] = dict(
        type='repfusion_mm.UniformTimestepPolicy', **timesteps
    )

images = dict(
    type='mmpretrain.CustomDataset',
    data_root=data_root,
    with_label=labels == 'folders',
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(
            type='mmpretrain.RandomResizedCrop',
            scale=image_size,
            crop_ratio_range=(0.5, 1.0),
        ),
        dict(type='mmpretrain.RandomFlip', prob=0.5),
        dict(type='mmpretrain.PackInputs'),
    ],
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    drop_last=True,  # a batch of one image has no batch norm
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=images,
)
if labels and labels != 'folders':
    # Half of each batch is drawn from the labelled images.
    labelled = dict(images, ann_file=labels, with_label=True)
    train_dataloader['dataset'] = dict(
        type='ConcatDataset', datasets=[labelled, images]
    )
    train_dataloader['sampler'] = dict(
        type='repfusion_mm.ProportionalSampler', proportions=[1, 1]
    )

if labels:
    # For tools/analysis_tools/probe_timesteps.py: labelled, not augmented.
    probe_dataset = dict(
        images,
        ann_file='' if labels == 'folders' else labels,
        with_label=True,
        pipeline=[
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmpretrain.ResizeEdge', scale=image_size),
            dict(type='mmpretrain.CenterCrop', crop_size=image_size),
            dict(type='mmpretrain.PackInputs'),
        ],
    )

train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
custom_hooks = [
    # Annealed, so that a short run is not exported half random.
    dict(
        type='EMAHook',
        ema_type='MomentumAnnealingEMA',
        momentum=1e-3,
        gamma=100,
    ),
    dict(type='repfusion_mm.TimestepPolicyHook'),
    dict(type='repfusion_mm.ExportStudentHook'),
]
