"""Data sets from their archives, whole, damaged and half converted."""

import sys

import celebamask_hq
import cv2
import numpy as np
import pytest
import tiny_imagenet

from tests import layouts
from tests.tools.launcher import launch


@pytest.fixture
def tiny(tmp_path):
    root = tmp_path / 'tiny-imagenet-200'
    layouts.save_tiny_imagenet(root, num_classes=3)
    return root


@pytest.fixture
def faces(tmp_path):
    root = tmp_path / 'CelebAMask-HQ'
    layouts.save_celebamask_hq(root, num_images=4)
    return root


def test_tiny_imagenet_is_listed_by_sorted_ids(tiny):
    tiny_imagenet.main([str(tiny)])
    train = (tiny / 'meta/train.txt').read_text().splitlines()
    assert train[0] == ('train/n00001000/images/n00001000_0.JPEG 0')
    assert [line.split()[1] for line in train] == list('001122')
    val = (tiny / 'meta/val.txt').read_text().splitlines()
    assert val == [f'val/images/val_{i}.JPEG {i}' for i in range(3)]


def drop_image(root):
    (root / 'val/images/val_1.JPEG').unlink()


def drop_class(root):
    for path in (root / 'train/n00001007/images').iterdir():
        path.unlink()


def foreign_class(root):
    path = root / 'val/val_annotations.txt'
    path.write_text(path.read_text().replace('n00001007', 'n09999999'))


def cut_line(root):
    path = root / 'val/val_annotations.txt'
    path.write_text(path.read_text() + 'val_3.JPEG\n')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop_image, 'val_1.JPEG'),
        (drop_class, r'1 classes without images \[1\]'),
        (foreign_class, 'line 2, got .*n09999999'),
        (cut_line, 'line 4, got'),
    ],
)
def test_damaged_tiny_imagenet_is_refused(tiny, damage, message):
    damage(tiny)
    with pytest.raises(ValueError, match=message):
        tiny_imagenet.main([str(tiny)])
    assert not (tiny / 'meta').exists()


def test_faces_are_painted_in_order_and_split_officially(faces):
    """Fault 11 of the public code: an unseeded split."""
    celebamask_hq.main([str(faces), '--jobs', '2'])
    label_map = cv2.imread(
        str(faces / 'label_maps/1.png'), cv2.IMREAD_UNCHANGED
    )
    assert label_map.shape == (512, 512)
    # Each part of the miniature starts 60 rows below the one before it.
    column = label_map[:, 200]
    assert column[[0, 60, 120, 180, 240, 300]].tolist() == [1, 2, 3, 4, 10, 17]
    assert label_map[0, 0] == 0
    read = {
        path.stem: path.read_text().split()
        for path in (faces / 'splits').iterdir()
    }
    assert read == dict(
        train=['0', '2'],
        val=['1'],
        test=['3'],
        train_images=['0.jpg', '2.jpg'],
    )


def test_conversion_goes_on_where_it_was_stopped(faces):
    celebamask_hq.main([str(faces), '--jobs', '1'])
    paths = [faces / f'label_maps/{i}.png' for i in range(4)]
    before = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    paths[2].write_bytes(before[2][:100])
    cv2.imwrite(str(paths[3]), np.full((512, 512), 19, np.uint8))
    celebamask_hq.main([str(faces), '--jobs', '1'])
    assert [path.read_bytes() for path in paths] == before
    assert paths[0].stat().st_mtime_ns == times[0]


def drop_masks(root):
    for path in root.glob('*/0/00002_*.png'):
        path.unlink()


def drop_face(root):
    (root / 'CelebA-HQ-img/3.jpg').unlink()


def drop_partition(root):
    path = root / 'list_eval_partition.txt'
    path.write_text('\n'.join(path.read_text().split('\n')[1:]))


def foreign_mask(root):
    (root / 'CelebAMask-HQ-mask-anno/0/00000_beard.png').write_bytes(b'')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop_masks, r'part masks for all 4 ids .* for 1: \[2\]'),
        (drop_face, r'images for all 4 ids .* for 1: \[3\]'),
        (drop_partition, "line 2, got '0"),
        (foreign_mask, 'got .*00000_beard.png'),
    ],
)
def test_damaged_faces_are_refused_before_anything_is_written(
    faces, damage, message
):
    damage(faces)
    with pytest.raises(ValueError, match=message):
        celebamask_hq.main([str(faces), '--jobs', '1'])
    assert not (faces / 'label_maps').exists()
    assert not (faces / 'splits').exists()


def test_damaged_masks_are_named_and_no_split_is_written(faces):
    mask = faces / 'CelebAMask-HQ-mask-anno/0/00001_nose.png'
    mask.write_bytes(mask.read_bytes()[:50])
    other = faces / 'CelebAMask-HQ-mask-anno/0/00002_hair.png'
    cv2.imwrite(str(other), np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError, match='2 of 4 label maps') as error:
        celebamask_hq.main([str(faces), '--jobs', '1'])
    assert '00001_nose.png, got a damaged file' in str(error.value)
    assert '00002_hair.png, got (64, 64)' in str(error.value)
    assert sorted(p.name for p in (faces / 'label_maps').iterdir()) == [
        '0.png',
        '3.png',
    ]
    assert not (faces / 'splits').exists()


@pytest.mark.parametrize('tool', ['celebamask_hq', 'tiny_imagenet'])
def test_a_missing_archive_is_one_line(tool, tmp_path):
    output = launch(
        sys.executable,
        f'tools/dataset_converters/{tool}.py',
        tmp_path,
        expect=1,
    )
    assert output.startswith('error: ')
    assert str(tmp_path) in output
    assert output.count('\n') == 1
