import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from repfusion_mm.registry import DATASETS
from tests.unit.test_configs import ROOT

CONFIG = next(ROOT.glob('configs/finetune/mmseg/*r18*-repfusion_*.py'))
PAIRS = [(2, 3), (4, 5), (7, 8)]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


@pytest.fixture
def faces(site, tmp_path):
    """Return a copy of the converted miniature, which tests may damage."""
    return shutil.copytree(site / 'data/CelebAMask-HQ', tmp_path / 'faces')


def build(root, split='train', pipeline=(), **overrides):
    return DATASETS.build(
        dict(
            type='repfusion_mm.CelebAMaskHQDataset',
            data_root=str(root),
            data_prefix=dict(
                img_path='CelebA-HQ-img', seg_map_path='label_maps'
            ),
            ann_file=f'splits/{split}.txt',
            pipeline=list(pipeline),
            **overrides,
        )
    )


def test_classes_colors_and_pairs(faces):
    dataset = build(faces)
    classes = dataset.metainfo['classes']
    assert len(classes) == len(dataset.metainfo['palette']) == 19
    assert len({tuple(color) for color in dataset.METAINFO['palette']}) == 19
    names = [
        {classes[left], classes[right]}
        for left, right in dataset.METAINFO['left_right_pairs']
    ]
    assert names == [{f'l_{p}', f'r_{p}'} for p in ('brow', 'eye', 'ear')]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_images_and_label_maps_have_512_pixels(faces, split):
    """The images have 1024 pixels and are decoded at half resolution."""
    pipeline = Config.fromfile(CONFIG)[f'{split}_pipeline']
    if split == 'train':
        pipeline = [t for t in pipeline if t.type in (
            'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs'
        )]  # fmt: skip
    data = build(faces, split, pipeline)[0]
    assert data['inputs'].shape == (3, 512, 512)
    assert data['data_samples'].gt_sem_seg.shape == (512, 512)
    assert data['data_samples'].ori_shape == (512, 512)


def test_images_that_cannot_be_read_may_be_skipped(faces):
    (faces / 'CelebA-HQ-img/0.jpg').write_bytes(b'')
    load, *rest = Config.fromfile(CONFIG).test_pipeline
    load = dict(type='repfusion_mm.LoadImage', on_error='skip')
    dataset = build(faces, 'train', [load, *rest])
    assert dataset.prepare_data(0) is None
    assert dataset.prepare_data(1) is not None


def test_flips_swap_left_and_right(faces):
    """In the reference implementation a mirrored left eye stays one."""
    cfg = Config.fromfile(CONFIG)
    flip = next(t for t in cfg.train_pipeline if t.type == 'RandomFlip')
    load, annotate, pack = cfg.test_pipeline
    plain = build(faces, 'train', [load, annotate, pack])[0]
    flipped = build(
        faces, 'train', [load, annotate, dict(flip, prob=1.0), pack]
    )[0]
    before = plain['data_samples'].gt_sem_seg.data.flip(-1)
    after = flipped['data_samples'].gt_sem_seg.data
    assert {2, 3, 4} <= set(before.unique().tolist())
    expected = before.clone()
    for left, right in PAIRS:
        expected[before == left] = right
        expected[before == right] = left
    assert torch.equal(after, expected)
    assert torch.equal(flipped['inputs'], plain['inputs'].flip(-1))


@pytest.mark.parametrize('swap', [None, [(2, 3), (4, 5)]])
def test_flips_that_do_not_swap_are_refused(faces, swap):
    flip = dict(type='RandomFlip', prob=0.5, swap_seg_labels=swap)
    with pytest.raises(ValueError, match='expected RandomFlip with swap_seg'):
        build(faces, pipeline=[flip])


def test_labels_fit_the_network():
    """The reference implementation has 18 outputs for labels 0 to 18."""
    model = Config.fromfile(CONFIG).model
    heads = [model.decode_head, *model.auxiliary_head]
    assert [head.num_classes for head in heads] == [19] * 3


def test_unknown_classes_are_reported_before_training(faces):
    cv2.imwrite(
        str(faces / 'label_maps/2.png'), np.full((512, 512), 19, np.uint8)
    )
    with pytest.raises(ValueError, match=r'0 to 18 .*2\.png, got \[19\]'):
        build(faces)


def test_unknown_classes_are_reported_when_loaded(faces):
    pipeline = Config.fromfile(CONFIG).test_pipeline
    dataset = build(faces, 'train', pipeline)
    assert len(dataset) == 4
    cv2.imwrite(
        str(faces / 'label_maps/2.png'), np.full((512, 512), 255, np.uint8)
    )
    assert dataset[1] is not None  # 255 is ignored
    cv2.imwrite(
        str(faces / 'label_maps/2.png'), np.full((512, 512), 77, np.uint8)
    )
    with pytest.raises(ValueError, match=r'2\.png, got \[77\]'):
        dataset[1]


def test_missing_files_are_reported(faces):
    (faces / 'label_maps/4.png').unlink()
    (faces / 'CelebA-HQ-img/0.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'2 missing.*0\.jpg.*4\.png'):
        build(faces)
    with pytest.raises(FileNotFoundError, match=r'splits/nothing\.txt'):
        build(faces, split='nothing')
    (faces / 'splits/val.txt').write_text('')
    with pytest.raises(FileNotFoundError, match='each of 0 names'):
        build(faces, split='val')
