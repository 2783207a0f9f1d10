"""Datasets and pipelines of other projects, as their configs have them."""

import importlib
import json
import pprint
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from tests.helpers import layouts
from tests.helpers.launcher import ROOT, run_main

pytestmark = pytest.mark.slow
#: The config that is copied from, the data preprocessor, and the decoder.
SOURCES = {
    'ade20k': (
        'mmseg', '_base_/datasets/ade20k.py',
        'SegDataPreProcessor', 'SegDecoder', dict(num_classes=150),
    ),
    'wflw': (
        'mmpose', 'face_2d_keypoint/topdown_heatmap/wflw/'
        'td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py',
        'PoseDataPreprocessor', 'KeypointDecoder', dict(num_keypoints=98),
    ),
    'coco_pose': (
        'mmpose', 'body_2d_keypoint/topdown_heatmap/coco/'
        'td-hm_res50_8xb64-210e_coco-256x192.py',
        'PoseDataPreprocessor', 'KeypointDecoder', dict(num_keypoints=17),
    ),
    'coco': (
        'mmdet', '_base_/datasets/coco_detection.py',
        'DetDataPreprocessor', None, {},
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Write miniatures where the configs look for the data."""
    folder = tmp_path_factory.mktemp('projects')
    layouts.save_wflw(folder / 'data/wflw')
    rng = np.random.default_rng(0)
    ade = folder / 'data/ade/ADEChallengeData2016'
    for i in range(4):
        name = f'training/ADE_train_{i:08d}'
        layouts.write_image(ade / f'images/{name}.jpg', 80)
        label_map = rng.integers(0, 151, (4, 4), dtype=np.uint8)
        label_map = np.kron(label_map, np.ones((20, 20), np.uint8))
        path = ade / f'annotations/{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), label_map)
    save_coco(folder / 'data/coco', rng)
    return folder


def save_coco(root, rng):
    """Write COCO with one person in each image; one image is wider."""
    images, annotations = [], []
    for i in range(4):
        name = f'{i:012d}.jpg'
        image = rng.integers(0, 256, (120, 120 + 40 * (i == 3), 3))
        path = root / 'train2017' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image.astype(np.uint8))
        height, width = image.shape[:2]
        images.append(dict(id=i, file_name=name, height=height, width=width))
        points = np.full((17, 3), 2)
        points[:, :2] = rng.integers(20, 100, (17, 2))
        annotations.append(
            dict(
                id=i,
                image_id=i,
                category_id=1,
                iscrowd=0,
                keypoints=points.ravel().tolist(),
                num_keypoints=17,
                bbox=[10, 10, 90, 90],
                area=8100,
                segmentation=[[10, 10, 100, 10, 100, 100]],
            )
        )
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=1, name='person')],
    )
    for kind in ('person_keypoints', 'instances'):
        path = root / f'annotations/{kind}_train2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def without_scope(value):
    """Return settings without what mmengine adds to those of a package."""
    if isinstance(value, dict):
        return {
            k: without_scope(v) for k, v in value.items() if k != '_scope_'
        }
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_scope, value))
    return value


def run(name, data, teacher, out, *, scope=True, edit=None, expect=0):
    """Distill on the dataset of a project's config.

    Args:
        name: Of ``SOURCES``.
        data: The folder that has data/.
        teacher: The folder of the teacher.
        out: An empty folder.
        scope: Whether default_scope is the project, or the dataset has it.
        edit: A function that changes the pipeline.
        expect: The exit status.
    """
    project, source, preprocessor, decoder, sizes = SOURCES[name]
    mim = Path(importlib.import_module(project).__file__).parent / '.mim'
    dataset = Config.fromfile(mim / 'configs' / source).train_dataloader
    dataset = without_scope(dataset.dataset.to_dict())
    if edit is not None:
        edit(dataset['pipeline'])
    lines = []
    if scope:
        lines.append(f'default_scope = {project!r}')
    else:
        dataset['type'] = f'{project}.{dataset["type"]}'
    model = dict(
        data_preprocessor=dict(type=f'{project}.{preprocessor}'),
        student=dict(
            type='mmpretrain.ResNet',
            depth=18,
            stem_channels=16,
            base_channels=16,
            _delete_=True,
        ),
        teacher=dict(
            type='repfusion_mm.DiffusersTeacher',
            pretrained=str(teacher),
            layers=['mid_block.resnets.1.conv2'],
            input_size=16,
        ),
        policy=dict(type='repfusion_mm.UniformTimestepPolicy'),
        channels_last=False,
    )
    if project == 'mmseg':
        model['data_preprocessor']['size'] = (512, 512)
    if decoder:
        model['decoder'] = dict(type=f'repfusion_mm.{decoder}', **sizes)
        model['policy']['type'] = 'repfusion_mm.LearnedTimestepPolicy'
    else:
        lines.append('optim_wrapper = dict(policy=None, decoder=None)')
    base = ROOT / 'tests/helpers/distillation_config.py'
    loader = dict(
        batch_size=2,
        batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
        dataset=dict(
            type='repfusion_mm.SeededConcatDataset', datasets=[dataset]
        ),
    )
    lines.append(f'model = {pprint.pformat(model)}')
    lines.append(f'train_dataloader = {pprint.pformat(loader)}')
    path = out / 'mine.py'
    path.write_text('\n'.join([f'_base_ = [{str(base)!r}]', *lines]))
    return run_main(
        'tools/train.py', path, '--work-dir', out / 'run',
        cwd=data, expect=expect,
    )  # fmt: skip


def pad(pipeline):
    """Pad after the random crop, which may be smaller than its size."""
    index = [step['type'] for step in pipeline].index('RandomCrop')
    padding = dict(img=0, seg=255)
    step = dict(type='Pad', size=(512, 512), pad_val=padding)
    pipeline.insert(index + 1, step)


def resize(pipeline):
    (step,) = (step for step in pipeline if step['type'] == 'Resize')
    step['keep_ratio'] = False


@pytest.mark.parametrize(
    ('name', 'edit'),
    [('ade20k', pad), ('wflw', None), ('coco_pose', None), ('coco', resize)],
)
def test_the_pipeline_of_a_project_works(
    name, edit, data, teacher_folder, tmp_path
):
    run(name, data, teacher_folder, tmp_path, edit=edit)
    assert (tmp_path / 'run/student.pth').exists()


def test_images_of_several_sizes_are_refused(data, teacher_folder, tmp_path):
    result = run('coco', data, teacher_folder, tmp_path, expect=1)
    for text in ('images of one size', 'keep_ratio=False', 'Pad(size=...)'):
        assert text in result.last_line


@pytest.mark.parametrize(
    ('name', 'hints'),
    [
        ('ade20k', ["'mmseg.LoadAnnotations'", "default_scope='mmseg'"]),
        ('wflw', ["'mmpose.LoadImage'", "default_scope='mmpose' for"]),
        ('coco', ["'mmdet.PackDetInputs'", "default_scope='mmdet' for"]),
    ],
)
def test_types_without_the_scope_of_their_project_are_explained(
    name, hints, data, teacher_folder, tmp_path
):
    result = run(name, data, teacher_folder, tmp_path, scope=False, expect=1)
    for hint in hints:
        assert hint in result.last_line, result.last_line
