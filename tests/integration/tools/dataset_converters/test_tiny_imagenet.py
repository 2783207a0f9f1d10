"""Tiny-ImageNet from its archive, complete and damaged."""

import re

import pytest

from tests.helpers import layouts
from tests.helpers.launcher import run_main

TOOL = 'tools/dataset_converters/tiny_imagenet.py'


@pytest.fixture
def tiny(tmp_path):
    root = tmp_path / 'tiny-imagenet-200'
    layouts.save_tiny_imagenet(root, num_classes=3)
    return root


def test_tiny_imagenet_is_listed_by_sorted_ids(tiny):
    run_main(TOOL, tiny)
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


def unknown_class(root):
    path = root / 'val/val_annotations.txt'
    path.write_text(path.read_text().replace('n00001007', 'n09999999'))


def truncate_line(root):
    path = root / 'val/val_annotations.txt'
    path.write_text(path.read_text() + 'val_3.JPEG\n')


def empty_image(root):
    (root / 'train/n00001000/images/n00001000_1.JPEG').write_bytes(b'')


def repeat_class(root):
    path = root / 'wnids.txt'
    path.write_text(path.read_text() + 'n00001000\n')


def no_class(root):
    (root / 'wnids.txt').write_text('')


def path_outside(root):
    path = root / 'val' / 'val_annotations.txt'
    (root.parent / 'other.JPEG').write_bytes(b'another')
    text = path.read_text()
    path.write_text(text.replace('val_1.JPEG', '../../../other.JPEG'))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (path_outside, r'got the path .*other\.JPEG'),
        (empty_image, '1 missing or empty files .*n00001000_1'),
        (repeat_class, 'got 4 ids, 3 of them unique'),
        (no_class, 'got 0 ids'),
        (drop_image, 'val_1.JPEG'),
        (drop_class, r'1 classes without images \[1\]'),
        (unknown_class, 'line 2, got .*n09999999'),
        (truncate_line, 'line 4, got'),
    ],
)
def test_damaged_tiny_imagenet_is_refused(tiny, damage, message):
    damage(tiny)
    assert re.search(message, run_main(TOOL, tiny, expect=1).last_line)
    assert not (tiny / 'meta').exists()


def test_a_missing_archive_is_named(tmp_path):
    assert str(tmp_path) in run_main(TOOL, tmp_path, expect=1).last_line


def test_a_folder_of_something_else_is_named(tmp_path):
    last = run_main(TOOL, tmp_path, expect=1).last_line
    assert f"expected wnids.txt in '{tmp_path}'" in last
    assert 'the unpacked tiny-imagenet-200.zip' in last
