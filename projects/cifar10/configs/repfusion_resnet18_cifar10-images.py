# Distill the small DDPM of CIFAR-10; few images are labeled.
_base_ = [
    '../../../configs/_base_/runtime/default_runtime.py',
    '../../../configs/_base_/runtime/distill_hooks.py',
    '../../../configs/_base_/models/repfusion_cls.py',
    '../../../configs/_base_/schedules/distill_cosine.py',
]
data_root = 'data/cifar10_images'

model = dict(
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
    ),
    student=dict(stem_channels=16, base_channels=16),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        # Shipped; configs/teacher/ddpm_cifar10.py trains one of your own.
        pretrained='projects/cifar10/ddpm_cifar10',
        layers=['mid_block.resnets.1.conv2'],
    ),
    normalizer=dict(type='repfusion_mm.StandardizeNormalizer'),
)

images = dict(
    type='mmpretrain.CustomDataset',
    data_root=data_root,
    ann_file='train.txt',
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
        dict(type='mmpretrain.RandomFlip', prob=0.5),
        dict(type='mmpretrain.PackInputs'),
    ],
)
unlabeled = dict(
    {key: value for key, value in images.items() if key != 'ann_file'},
    data_prefix='train',
    with_label=False,
)
# Half of each batch is drawn from the labeled images.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(
        type='repfusion_mm.ProportionalSampler',
        proportions=[1, 1],
        num_samples=64_000,
    ),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset', datasets=[images, unlabeled]
    ),
)
# Labeled and not augmented, for tools/analysis_tools/probe_timesteps.py.
probe_dataset = dict(
    images,
    pipeline=[
        dict(type='repfusion_mm.LoadImage'),
        dict(type='mmpretrain.PackInputs'),
    ],
)
train_cfg = dict(by_epoch=False, max_iters=1000)
optim_wrapper = dict(student=dict(optimizer=dict(lr=0.4)))
param_scheduler = dict(
    student=dict(_delete_=True, type='CosineAnnealingLR', by_epoch=False)
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=-1))
log_processor = dict(by_epoch=False)
