"""From a folder of images to a finetuned model, with the projects' own tools.

Everything runs in a folder that has only images, labels and a teacher.
"""

import importlib
import sys
from pathlib import Path

import pytest

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.launcher import ROOT, launch
from tests.helpers.own_images import CLASSES, OPTIONS, make_folder
from tests.helpers.toy import save_teacher

#: For each task the project, and the part of a config that is not about the
#: backbone.
COMMON = """
custom_imports = dict(imports=['repfusion_mm'])
default_scope = {project!r}
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg, test_cfg = dict(), dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(strict_load=dict(type='repfusion_mm.StrictLoadHook'))
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(**dataset, pipeline=train),
    sampler=dict(type='InfiniteSampler'))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict(**dataset, pipeline=test),
    sampler=dict(type='DefaultSampler', shuffle=False))
"""
PROJECTS = dict(
    classes=(
        'mmpretrain',
        """
dataset = dict(type='CustomDataset', data_root='images',
               ann_file='../labels.txt')
train = test = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
val_evaluator = test_evaluator = dict(type='Accuracy')
model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=11),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=512,
              loss=dict(type='CrossEntropyLoss')))
""",
    ),
    masks=(
        'mmseg',
        """
dataset = dict(
    type='BaseSegDataset', data_root='.', img_suffix='.jpg',
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    metainfo=dict(classes=('background', 'circle', 'square')))
train = test = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                dict(type='PackSegInputs')]
val_evaluator = test_evaluator = dict(type='IoUMetric')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(16, 16)),
    backbone=dict(type='VGG', depth=11),
    decode_head=dict(type='FCNHead', in_channels=512, in_index=0, channels=8,
                     num_classes=3, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='whole'))
""",
    ),
    keypoints=(
        'mmpose',
        """
codec = dict(type='RegressionLabel', input_size=(16, 16))
dataset = dict(
    type='BaseCocoStyleDataset', ann_file='points.json',
    data_prefix=dict(img='images'), metainfo=dict(
        dataset_name='mine', paper_info={{}}, skeleton_info={{}},
        keypoint_info={{i: dict(name=n, id=i, color=[0] * 3, type='', swap='')
                       for i, n in enumerate(['left', 'right', 'bottom'])}},
        joint_weights=[1.0] * 3, sigmas=[0.05] * 3))
begin = [dict(type='LoadImage'), dict(type='GetBBoxCenterScale'),
         dict(type='TopdownAffine', input_size=(16, 16))]
train = begin + [dict(type='GenerateTarget', encoder=codec),
                 dict(type='PackPoseInputs')]
test = begin + [dict(type='PackPoseInputs')]
val_evaluator = test_evaluator = dict(
    type='NME', norm_mode='keypoint_distance', keypoint_indices=[0, 1])
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor'),
    backbone=dict(type='VGG', depth=11),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='RegressionHead', in_channels=512, num_joints=3,
              loss=dict(type='SmoothL1Loss'), decoder=codec))
""",
    ),
    boxes=(
        'mmdet',
        f"""
dataset = dict(
    type='CocoDataset', ann_file='boxes.json', data_prefix=dict(img='images'),
    metainfo=dict(classes={CLASSES!r}))
train = [dict(type='LoadImageFromFile'),
         dict(type='LoadAnnotations', with_bbox=True),
         dict(type='PackDetInputs', meta_keys=('img_id', 'img_path',
              'ori_shape', 'img_shape'))]
test = [dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(16, 16), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path',
             'ori_shape', 'img_shape', 'scale_factor'))]
val_evaluator = test_evaluator = dict(
    type='CocoMetric', ann_file='boxes.json', metric='bbox')
model = dict(
    type='FCOS',
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=dict(type='VGG', depth=11),
    neck=dict(type='FPN', in_channels=[512], out_channels=16, num_outs=5),
    bbox_head=dict(type='FCOSHead', num_classes=2, in_channels=16),
    test_cfg=dict(nms_pre=10, min_bbox_size=0, score_thr=0.0,
                  nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
""",
    ),
)

METRICS = dict(
    classes='accuracy/top1', masks='mIoU', keypoints='NME', boxes='bbox_mAP'
)


@pytest.mark.parametrize('task', PROJECTS)
def test_from_a_folder_to_a_finetuned_model(task, tmp_path):
    project, rest = PROJECTS[task]
    make_folder(tmp_path)
    save_teacher(tmp_path / 'teacher')
    command = [sys.executable, ROOT / 'tools/distill_folder.py', 'images']
    output = launch(
        *command, *OPTIONS[task], '--teacher', './teacher', '--epochs', '1',
        '--work-dir', 'out', '--student', f'{project}.ResNet', 'depth=18',
        'out_indices=[3]', '--ignore-verdict', '--cfg-options',
        'train_dataloader.num_workers=0',
        cwd=tmp_path,
    )  # fmt: skip
    assert 'untrained student: ' in output
    verdict = (tmp_path / 'out/verdict.txt').read_text()
    _, lines = verdict.split(f'your config of {project} ')
    (tmp_path / 'base.py').write_text(
        rest.replace('{{', '{').replace('}}', '}')
        + COMMON.format(project=project)
    )
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['base.py']\n" + lines.split('\n\n', 1)[1]
    )
    mim = Path(importlib.import_module(project).__file__).parent / '.mim'
    output = launch(
        sys.executable, mim / 'tools/train.py', 'mine.py',
        cwd=tmp_path, PYTHONPATH='',
    )  # fmt: skip
    weights = load_from_local(tmp_path / 'out/student.pth')['state_dict']
    assert f'loaded {len(weights)}/{len(weights)} tensors' in output
    assert METRICS[task] in output
