"""Labels of each kind are read, and those that do not fit are refused."""

import json

import cv2
import numpy as np
import pytest

from repfusion_mm.own_images.images import list_images
from repfusion_mm.own_images.labels import read_labels
from tests.helpers.own_images import OPTIONS, make_folder


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path)


def read(root, task):
    option, name = OPTIONS[task]
    if name != 'folders':
        name = str(root / name)
    kinds = {'labels': None, 'masks': None, 'coco': None, option[2:]: name}
    return read_labels(list_images(str(root / 'images')), **kinds)


@pytest.mark.parametrize(
    ('task', 'names', 'text'),
    [
        ('classes', (), '24 labeled images of 2 classes, 12 to 12 of each'),
        ('folders', (), '24 labeled images of 2 classes, 12 to 12 of each'),
        ('masks', (), '24 label maps, of classes up to 2'),
        (
            'keypoints',
            ('left', 'right', 'bottom'),
            '24 instances of 3 keypoints in 24 images',
        ),
        (
            'boxes',
            ('circle', 'square'),
            '24 boxes of 2 classes in 24 images',
        ),
    ],
)
def test_labels_are_read(root, task, names, text):
    labels = read(root, task)
    expected = 'classes' if task == 'folders' else task
    assert labels.task == expected
    assert labels.names == names
    assert labels.text == text


def test_without_an_option_there_are_no_labels(root):
    images = list_images(str(root / 'images'))
    assert read_labels(images, None, None, None) is None


def edit(path, function):
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def write_lines(root, lines):
    (root / 'labels.txt').write_text('\n'.join(lines))


def of_class(root, number):
    lines = (root / 'labels.txt').read_text().splitlines()
    return [line for line in lines if line.endswith(f' {number}')]


FAULTS = {
    'list of missing images': (
        'classes',
        lambda r: write_lines(r, ['0.jpg 0', '1.jpg 1']),
        r"2 of 2, such as '0.jpg' \(there is 'circle/0.jpg'\)",
    ),
    'one class': (
        'classes',
        lambda r: write_lines(r, of_class(r, 0)),
        r'two classes or more, got 12 of \[0\]',
    ),
    'fewer labels than classes': (
        'classes',
        lambda r: write_lines(r, [*of_class(r, 0), *of_class(r, 1)[:1]]),
        'of each of 2 classes, got less of 1',
    ),
    'a class number is left out': (
        'classes',
        lambda r: write_lines(
            r,
            [*of_class(r, 0), *(i[:-1] + '2' for i in of_class(r, 1))],
        ),
        'got less of 1 .*number the classes from 0',
    ),
    'a negative class': (
        'classes',
        lambda r: write_lines(r, [*of_class(r, 0), 'circle/0.jpg -2'][1:]),
        r'got \[-2\]',
    ),
    'a class without images': (
        'folders',
        lambda r: (r / 'images/triangle').mkdir(),
        'of each of 3 classes, got less of triangle',
    ),
    'no list': (
        'classes',
        lambda r: (r / 'labels.txt').unlink(),
        'correct --labels',
    ),
    'masks among the images': (
        'masks',
        lambda r: (
            (r / 'masks').rename(r / 'images/masks'),
            (r / 'masks').symlink_to(r / 'images/masks'),
        ),
        '--masks outside of the folder of the images',
    ),
    'a mask of another size': (
        'masks',
        lambda r: cv2.imwrite(
            str(r / 'masks/circle/0.png'), np.zeros((8, 9), np.uint8)
        ),
        '0.png of 9 x 8 for an image of 16 x 16',
    ),
    'a mask of colors': (
        'masks',
        lambda r: cv2.imwrite(
            str(r / 'masks/circle/0.png'), np.zeros((16, 16, 3), np.uint8)
        ),
        r'one channel, .* of shape \(16, 16, 3\)',
    ),
    'masks of 0 and 255': (
        'masks',
        lambda r: [
            cv2.imwrite(str(p), 255 * (cv2.imread(str(p), 0) > 0))
            for p in (r / 'masks').rglob('*.png')
        ],
        r'two classes or more in label maps, got \[0\]',
    ),
    'a mask without an image': (
        'masks',
        lambda r: (r / 'images/circle/0.jpg').unlink(),
        '1 of 24 without an image: circle/0.png',
    ),
    'COCO with other names': (
        'boxes',
        lambda r: edit(
            r / 'boxes.json',
            lambda c: c['images'][0].update(file_name='0.jpg'),
        ),
        r"1 of 24, such as '0.jpg' \(there is 'circle/0.jpg'\)",
    ),
    'COCO of other sizes': (
        'boxes',
        lambda r: edit(
            r / 'boxes.json', lambda c: c['images'][0].update(width=640)
        ),
        "640 x 16 for 'circle/0.jpg', which has 16 x 16",
    ),
    'COCO without labels': (
        'boxes',
        lambda r: edit(
            r / 'boxes.json',
            lambda c: [i.update(iscrowd=1) for i in c['annotations']],
        ),
        'boxes or keypoints in .*, got none in 24 annotations',
    ),
    'COCO of other images': (
        'boxes',
        lambda r: edit(
            r / 'boxes.json',
            lambda c: c['annotations'][0].update(image_id=99),
        ),
        'got 1 of others, such as image_id 99',
    ),
    'no COCO': (
        'boxes',
        lambda r: (r / 'boxes.json').write_text('[]'),
        'expected images, annotations, categories in',
    ),
    'no JSON': (
        'boxes',
        lambda r: (r / 'boxes.json').write_text('a b'),
        'expected a COCO file',
    ),
    'other numbers of keypoints': (
        'keypoints',
        lambda r: edit(
            r / 'points.json',
            lambda c: c['annotations'][0].update(keypoints=[1, 1, 2]),
        ),
        r'same number of keypoints .* got \{1: 1, 3: 23\}',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_labels_that_do_not_fit_are_refused(root, fault):
    task, spoil, message = FAULTS[fault]
    spoil(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(root, task)


def test_images_that_cannot_be_read_are_named(root):
    (root / 'images/circle/0.jpg').write_bytes(b'')
    with pytest.raises(
        ValueError, match=r'got 1 that cannot: /.*circle/0.jpg'
    ):
        list_images(str(root / 'images'))


def test_a_few_images_are_too_few(tmp_path):
    make_folder(tmp_path, num_images=6)
    with pytest.raises(ValueError, match=r'8 images or more .* got 6'):
        list_images(str(tmp_path / 'images'))
