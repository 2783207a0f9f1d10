"""CIFAR-10-images from its repository: complete and damaged."""

import re

import pytest

from tests.helpers import layouts
from tests.helpers.launcher import run_main

TOOL = 'tools/dataset_converters/cifar10_images.py'


@pytest.fixture
def cifar(tmp_path):
    root = tmp_path / 'cifar10_images'
    layouts.save_cifar10_images(root)
    return root


def test_classes_alternate_in_the_lists(cifar):
    output = run_main(TOOL, cifar).output
    lines = (cifar / 'train.txt').read_text().splitlines()
    assert lines[:2] == [
        'train/airplane/0000.jpg 0',
        'train/automobile/0000.jpg 1',
    ]
    assert lines[-1] == 'train/truck/0001.jpg 9'
    assert [line.split()[1] for line in lines] == list('01234567890123456789')
    lines = (cifar / 'test.txt').read_text().splitlines()
    assert [line.split()[1] for line in lines] == list('0123456789')
    assert 'train.txt: 20 images of 10 classes' in output
    assert "{'train': 50000, 'test': 10000} images, got {'train': 20" in output


def test_mmpretrain_reads_the_lists(cifar):
    from mmpretrain.datasets import CustomDataset

    run_main(TOOL, cifar)
    dataset = CustomDataset(data_root=str(cifar), ann_file='test.txt')
    assert len(dataset) == 10
    sample = dataset.get_data_info(3)
    assert sample['img_path'] == str(cifar / 'test/cat/0000.jpg')
    assert sample['gt_label'] == 3


def rename_class(root):
    (root / 'test/horse').rename(root / 'test/unicorn')


def drop_split(root):
    (root / 'test').rename(root / 'tests')


def drop_images(root):
    (root / 'test/ship/0000.jpg').unlink()


def empty_image(root):
    (root / 'train/dog/0001.jpg').write_bytes(b'')


def truncated_image(root):
    path = root / 'train/dog/0001.jpg'
    path.write_bytes(path.read_bytes()[:-50])


def large_image(root):
    layouts.write_image(root / 'train/dog/0001.jpg', 64)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (rename_class, r"\['horse'\] missing and \['unicorn'\] unknown"),
        (drop_split, r"in '.*/test', got \['airplane'.*'truck'\] missing"),
        (drop_images, r"images of all classes in .*test, got none of \['ship"),
        (empty_image, 'train/dog/0001.jpg, got a damaged file'),
        (truncated_image, 'train/dog/0001.jpg, got a damaged file'),
        (large_image, r'\(32, 32\) at .*/dog/0001.jpg, got \(64, 64\)'),
    ],
)
def test_damaged_images_are_refused_and_no_list_is_written(
    cifar, damage, message
):
    damage(cifar)
    assert re.search(message, run_main(TOOL, cifar, expect=1).last_line)
    assert not list(cifar.glob('*.txt'))
