"""Data sets from their archives, whole, damaged and half converted."""

import os
import signal
import sys
from concurrent.futures.process import BrokenProcessPool

import celebamask_hq
import cv2
import numpy as np
import pytest
import tiny_imagenet

from tests.helpers import layouts
from tests.helpers.launcher import launch


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


def empty_image(root):
    (root / 'train/n00001000/images/n00001000_1.JPEG').write_bytes(b'')


def repeat_class(root):
    path = root / 'wnids.txt'
    path.write_text(path.read_text() + 'n00001000\n')


def no_class(root):
    (root / 'wnids.txt').write_text('')


def leave_the_folder(root):
    path = root / 'val' / 'val_annotations.txt'
    (root.parent / 'other.JPEG').write_bytes(b'another')
    text = path.read_text()
    path.write_text(text.replace('val_1.JPEG', '../../../other.JPEG'))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (leave_the_folder, r'got the path .*other\.JPEG'),
        (empty_image, '1 missing or empty files .*n00001000_1'),
        (repeat_class, 'each once, got 4, of which 3 differ'),
        (no_class, 'each once, got 0'),
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


def append(path, line):
    path.write_text(path.read_text() + line)


def repeat_id(root):
    path = root / 'CelebA-HQ-to-CelebA-mapping.txt'
    append(path, path.read_text().splitlines()[1])


def foreign_id(root):
    append(root / 'CelebA-HQ-to-CelebA-mapping.txt', 'x\t0\t000200.jpg')


def empty_mapping(root):
    (root / 'CelebA-HQ-to-CelebA-mapping.txt').write_text('a header\n')


def cut_partition(root):
    append(root / 'list_eval_partition.txt', '000199.jpg 7')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop_masks, r'part masks for all 4 ids .* for 1: \[2\]'),
        (drop_face, r'images for all 4 ids .* for 1: \[3\]'),
        (drop_partition, r"line 2, each .*got '0"),
        (foreign_mask, 'got .*00000_beard.png'),
        (repeat_id, r"line 6, each id once.*got '0"),
        (foreign_id, r"line 6, .*got 'x.*000200.jpg'"),
        (empty_mapping, 'expected images in .*mapping.txt, got none'),
        (cut_partition, r'line 5, got .000199.jpg 7'),
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


def test_maps_of_a_half_unpacked_archive_are_painted_again(faces, capsys):
    held = faces.parent / 'held'
    held.mkdir()
    for path in faces.glob('*/0/*_skin.png'):
        path.rename(held / path.name)
    celebamask_hq.main([str(faces), '--jobs', '1'])
    assert 'masks: skin 0, l_brow 4' in capsys.readouterr().out
    for path in held.iterdir():
        path.rename(faces / 'CelebAMask-HQ-mask-anno/0' / path.name)
    celebamask_hq.main([str(faces), '--jobs', '1'])
    label_map = cv2.imread(
        str(faces / 'label_maps/1.png'), cv2.IMREAD_UNCHANGED
    )
    assert 1 in label_map
    output = capsys.readouterr().out
    assert 'masks: skin 4' in output
    assert 'note: the whole data set has 30000 images' in output


def test_images_that_configs_would_decode_too_small_are_refused(faces):
    layouts.write_image(faces / 'CelebA-HQ-img/2.jpg', 512)
    (faces / 'CelebA-HQ-img/3.jpg').write_bytes(b'')
    with pytest.raises(ValueError) as error:
        celebamask_hq.main([str(faces), '--jobs', '1'])
    assert '2.jpg, got (512, 512)' in str(error.value)
    assert '3.jpg, got a damaged file' in str(error.value)


def test_what_file_managers_leave_is_passed_over(faces):
    (faces / 'CelebAMask-HQ-mask-anno/0/._00001_hair.png').touch()
    append(faces / 'list_eval_partition.txt', '\n\n')
    celebamask_hq.main([str(faces), '--jobs', '1'])
    assert len(list((faces / 'label_maps').iterdir())) == 4


def test_a_killed_process_ends_the_conversion(faces, monkeypatch):
    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(celebamask_hq, 'paint', die)
    with pytest.raises(BrokenProcessPool):
        celebamask_hq.main([str(faces), '--jobs', '2'])


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
