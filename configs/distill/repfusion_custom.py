# Distill on any folder of images: edit the settings at the top of this file.
_base_ = [
    # The teacher: one of ../_base_/teachers, or a copy of one. This is the
    # result of configs/teacher/ddpm_custom.py.
    '../_base_/teachers/ddpm_custom.py',
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/schedules/distill_cosine.py',
]
data_root = 'data/mine'
# What is labeled: 'classes' of images, 'masks', 'keypoints' or 'boxes'.
task = 'classes'
# None: there are no labels.
# Classes: 'folders': each subfolder of data_root is a class; 'some.txt': a
# file in data_root with a line "path label" for each labeled image.
# Masks: a folder outside of data_root, such as '../masks', with a label map
# for each labeled image, of the same name.
# Keypoints and boxes: a COCO file with file names relative to data_root.
labels = 'labels.txt'
num_classes = 10  # of classes and masks, only with timestep = 'learned'
names = ()  # of the keypoints, or of the classes of boxes, as in the COCO file
# The teacher's timestep. With labels, set the one, such as 300, that this
# prints for them:
#     python tools/analysis_tools/probe_timesteps.py THIS_FILE
# 'learned': a policy learns it from the labels during training. 'uniform': it
# is drawn from `timesteps`, as it is without labels.
timestep = None
timesteps = _base_.timesteps
image_size = _base_.teacher_size
student = dict(type='mmpretrain.ResNet', depth=18)
batch_size = 64
max_epochs = 200

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    student=student,
    teacher=_base_.teacher,
    # Masks, keypoints and boxes need features of each position.
    distill_loss=dict(type='repfusion_mm.HintLoss', pooled=task == 'classes'),
    # The scale of features differs between teachers.
    normalizer=dict(type='repfusion_mm.StandardizeNormalizer'),
)
if timestep is None and _base_.teacher.type == 'repfusion_mm.TimmTeacher':
    timestep = 0  # there is no other
elif timestep is None and not labels:
    timestep = 'uniform'
if task not in ('classes', 'masks', 'keypoints', 'boxes'):
    raise ValueError(
        "expected task = 'classes', 'masks', 'keypoints' or 'boxes', got "
        f'{task!r}; correct it'
    )
if labels and task in ('keypoints', 'boxes') and not names:
    raise ValueError(
        f'expected names of the {task} with labels = {labels!r}, got none; '
        'copy them from the categories of the COCO file'
    )
if timestep == 'learned':
    model['policy'] = dict(type='repfusion_mm.LearnedTimestepPolicy')
    model['decoder'] = dict(
        classes=dict(type='repfusion_mm.ClsDecoder', num_classes=num_classes),
        masks=dict(type='repfusion_mm.SegDecoder', num_classes=num_classes),
        keypoints=dict(
            type='repfusion_mm.KeypointDecoder', num_keypoints=len(names)
        ),
        boxes=dict(type='repfusion_mm.DetDecoder', num_classes=len(names)),
    )[task]
elif timestep == 'uniform':
    model['policy'] = dict(
        type='repfusion_mm.UniformTimestepPolicy', **timesteps
    )
else:
    model['policy'] = dict(
        type='repfusion_mm.FixedTimestepPolicy', timestep=timestep
    )
if 'decoder' not in model:
    optim_wrapper = dict(policy=None, decoder=None)  # nothing to train

images = dict(
    type='repfusion_mm.ImageFolderDataset',
    data_root=data_root,
    # Otherwise, images that lie directly in data_root are distilled, too.
    with_label=timestep == 'learned'
    and task == 'classes'
    and labels == 'folders',
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

# For each task: how labeled images are read, augmented for the policy, resized
# for the probe, and packed.
square = (image_size, image_size)
if task == 'classes':
    labeled = dict(
        images, ann_file='' if labels == 'folders' else labels, with_label=True
    )
    read, pack = [images['pipeline'][0]], [images['pipeline'][-1]]
    augment = images['pipeline'][1:-1]
    resize = [
        dict(type='mmpretrain.ResizeEdge', scale=image_size),
        dict(type='mmpretrain.CenterCrop', crop_size=image_size),
    ]
elif task == 'keypoints':
    labeled = dict(
        type='mmpose.BaseCocoStyleDataset',
        data_root=data_root,
        ann_file=labels,
        data_prefix=dict(img=''),
        metainfo=dict(
            dataset_name='custom',
            paper_info=dict(),
            keypoint_info={
                i: dict(name=name, id=i, color=[0, 0, 0], type='', swap='')
                for i, name in enumerate(names)
            },
            skeleton_info=dict(),
            joint_weights=[1.0] * len(names),
            sigmas=[0.05] * len(names),
        ),
    )
    read = [
        dict(type='mmpose.LoadImage'),
        dict(type='mmpose.GetBBoxCenterScale'),
    ]
    # No flip, which would need the pairs of left and right keypoints.
    augment = [
        dict(
            type='mmpose.RandomBBoxTransform',
            shift_factor=0.1,
            scale_factor=(0.8, 1.2),
            rotate_prob=0,
        ),
    ]
    resize = []
    pack = [
        dict(type='mmpose.TopdownAffine', input_size=square),
        dict(
            type='mmpose.GenerateTarget',
            encoder=dict(type='mmpose.RegressionLabel', input_size=square),
        ),
        dict(type='mmpose.PackPoseInputs'),
    ]
else:
    if task == 'masks':
        labeled = dict(
            type='repfusion_mm.MaskFolderDataset',
            data_root=data_root,
            masks=labels,
        )
        read = [
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmseg.LoadAnnotations'),
        ]
        pack = [dict(type='mmseg.PackSegInputs')]
    else:
        labeled = dict(
            type='mmdet.CocoDataset',
            data_root=data_root,
            ann_file=labels,
            data_prefix=dict(img=''),
            metainfo=dict(classes=names),
        )
        read = [
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True),
        ]
        pack = [
            dict(
                type='mmdet.PackDetInputs', meta_keys=('img_path', 'img_shape')
            )
        ]
    scope = 'mmseg' if task == 'masks' else 'mmdet'
    augment = [
        dict(
            type='mmcv.RandomResize',
            scale=square,
            ratio_range=(1.0, 1.4),
            # That of mmcv does not move mmdet's boxes.
            resize_type='mmcv.Resize' if task == 'masks' else 'mmdet.Resize',
        ),
        dict(type=f'{scope}.RandomCrop', crop_size=square),
        dict(type=f'{scope}.RandomFlip', prob=0.5),
    ]
    resize = [dict(type='mmcv.Resize', scale=square)]
    if task == 'boxes':
        augment[1]['allow_negative_crop'] = True  # without a box: unlabeled
        # The probe predicts the class of the box at each pixel.
        resize.insert(0, dict(type='repfusion_mm.BoxesToMask'))

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    # drop_last: batch norm needs more than one image in a batch.
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler', drop_last=True),
    dataset=dict(type='repfusion_mm.SeededConcatDataset', datasets=[images]),
)
if 'decoder' in model and labels and not images['with_label']:
    # Half of each batch is drawn from the labeled images.
    train_dataloader['dataset']['datasets'] = [
        dict(labeled, pipeline=[*read, *augment, *pack]),
        images,
    ]
    train_dataloader['sampler'] = dict(
        type='repfusion_mm.ProportionalSampler', proportions=[1, 1]
    )
if labels:
    # For tools/analysis_tools/probe_timesteps.py.
    probe_dataset = dict(labeled, pipeline=[*read, *resize, *pack])

train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
custom_hooks = [
    # Annealed: in a short run a constant momentum would keep much of the
    # random initialization.
    dict(
        type='EMAHook',
        ema_type='MomentumAnnealingEMA',
        momentum=1e-3,
        gamma=100,
    ),
]
