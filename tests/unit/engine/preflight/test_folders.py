"""Files and class folders that datasets list are compared with the disk."""

import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset
from mmengine.registry import DATASETS

from repfusion_mm.engine.preflight.folders import check_files


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))


def check(root, num_classes=2, **config):
    config = dict(
        dict(type='mmpretrain.CustomDataset', data_root=str(root)), **config
    )
    model = SimpleNamespace(decoder=SimpleNamespace(num_classes=num_classes))
    check_files(ConcatDataset([DATASETS.build(config)]), model)


def test_what_a_dataset_leaves_out_of_a_folder_is_logged(tmp_path, log):
    for name in ('a.jpg', 'b.webp', 'c.webp', '.git/d.jpg'):
        write(tmp_path / name)
    check(tmp_path, with_label=False)
    assert '2 images: 2 .jpg; left out: 2 .webp\n' in log.text
    assert 'in hidden folders: 1 (.git/d.jpg ...)' in log.text
    log.clear()
    (tmp_path / 'list.txt').write_text('a.jpg 0\n')
    check(tmp_path, ann_file='list.txt')
    assert 'left out' not in log.text


def test_suffixes_of_mmseg_are_compared_too(tmp_path, log):
    pytest.importorskip('mmseg.datasets')
    for name in ('a.png', 'b.jpg', 'c.jpeg'):
        write(tmp_path / name)
    check(
        tmp_path, type='mmseg.BaseSegDataset', img_suffix='.jpg',
        data_prefix=dict(img_path=''),
    )  # fmt: skip
    assert '1 images: 1 .jpg; left out: 1 .png, 1 .jpeg' in log.text


def test_hidden_folders_are_refused_as_classes(tmp_path):
    for name in ('ant/0.jpg', '.ipynb_checkpoints/0.jpg'):
        write(tmp_path / name)
    with pytest.raises(ValueError, match=r"\['\.ipynb.*ImageFolderDataset"):
        check(tmp_path)
    check(tmp_path, type='repfusion_mm.ImageFolderDataset')


def test_classes_in_another_order_than_their_folders_are_refused(tmp_path):
    for name in ('ant/0.jpg', 'bee/0.jpg'):
        write(tmp_path / name)
    with pytest.raises(ValueError, match=r"\['ant', 'bee'\], got \['bee', '"):
        check(tmp_path, classes=['bee', 'ant'])
    with pytest.raises(ValueError, match='in the order of their folders'):
        check(tmp_path, metainfo=dict(classes=('bee', 'wasp')))
    check(tmp_path, classes=['ant', 'bee'])
    check(tmp_path, classes=['wasp', 'fly'])
    check(
        tmp_path, classes=['bee', 'ant'],
        type='repfusion_mm.ImageFolderDataset',
    )  # fmt: skip


def test_class_folders_are_compared_with_the_decoder(tmp_path, log):
    for name in ('ant/0.jpg', 'bee/0.jpg'):
        write(tmp_path / name)
    for kind in (
        'mmpretrain.CustomDataset',
        'repfusion_mm.ImageFolderDataset',
    ):
        log.clear()
        check(tmp_path, 2, type=kind)
        assert '2 class folders (ant, bee)' in log.text
        assert not [r for r in log.records if r.levelno == logging.WARNING]
        check(tmp_path, 3, type=kind)
        warnings = [r for r in log.records if r.levelno == logging.WARNING]
        assert '2 class folders (ant, bee), but' in warnings[-1].message
        with pytest.raises(ValueError, match=r'got 2 .*set num_classes=2'):
            check(tmp_path, 1, type=kind)


def test_folders_that_may_be_splits_of_a_dataset_are_named(tmp_path, log):
    for name in ('train/0.jpg', 'Val/0.jpg'):
        write(tmp_path / name)
    check(tmp_path)
    warnings = [r for r in log.records if r.levelno == logging.WARNING]
    assert 'of which train and val may be splits' in warnings[-1].message
