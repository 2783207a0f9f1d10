"""Labels of each kind are read, from the option that names them."""

import json

import pytest

from repfusion_mm.own_images.images import list_images
from repfusion_mm.own_images.labels import read_labels
from tests.helpers.own_images import read


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


@pytest.mark.parametrize(
    ('option', 'name', 'found'),
    [
        ('labels', 'nothing', 'does not exist'),
        ('masks', 'nothing', 'does not exist'),
        ('coco', 'nothing', 'does not exist'),
        ('labels', 'images', 'is a folder'),
        ('masks', 'boxes.json', 'is a file'),
        ('coco', 'images', 'is a folder'),
    ],
)
def test_paths_of_another_kind_are_refused(root, option, name, found):
    path = str(root / name)
    kinds = {'labels': None, 'masks': None, 'coco': None, option: path}
    message = f"--{option} to be .*, got '{path}', which {found}; correct"
    with pytest.raises(FileNotFoundError, match=message):
        read_labels(list_images(str(root / 'images')), **kinds)


def test_links_and_other_spellings_of_paths_are_read(root):
    (root / 'link').symlink_to(root / 'images')
    (root / 'mask_link').symlink_to(root / 'masks')
    images = list_images(str(root / 'link'))
    masks = read_labels(images, None, str(root / 'mask_link'), None)
    assert masks.text == '24 label maps, of classes up to 2'
    text = (root / 'labels.txt').read_text().replace('circle', './circle')
    (root / 'labels.txt').write_text(text)
    labels = read_labels(images, str(root / 'labels.txt'), None, None)
    assert labels.text.startswith('24 labeled images')
    content = json.loads((root / 'boxes.json').read_text())
    for file in content['images']:
        file['file_name'] = f'./{file["file_name"]}'
    (root / 'boxes.json').write_text(json.dumps(content))
    boxes = read_labels(images, None, None, str(root / 'boxes.json'))
    assert boxes.text == '24 boxes of 2 classes in 24 images'
