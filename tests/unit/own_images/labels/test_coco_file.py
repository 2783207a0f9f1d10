"""COCO files that mmdet or mmpose would not read are refused in one line."""

import json
import re

import pytest

from repfusion_mm.own_images.labels.coco_file import load_coco
from tests.helpers.own_images import edit, read

NAN = float('nan')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('a b', r'expected a COCO file \(JSON\) at .*boxes.json, got: Expect'),
        ('[]', 'expected the lists images, categories, annotations in'),
        ('"images annotations categories"', 'got none of images, categories'),
        ('null', 'got none of images, categories, annotations'),
        (
            '{"images": [], "annotations": null, "categories": {}}',
            'got none of categories, annotations; export',
        ),
    ],
)
def test_files_of_another_kind_are_refused(root, content, message):
    (root / 'boxes.json').write_text(content)
    with pytest.raises(ValueError, match=message):
        read(root, 'boxes')


@pytest.mark.parametrize('is_null', [False, True])
@pytest.mark.parametrize(
    ('name', 'field', 'message'),
    [
        ('images', 'id', 'an integer as "id" of the entry of index 1'),
        ('images', 'file_name', 'a name as "file_name" of the entry of id 1'),
        ('images', 'width', 'a number as "width" of the entry of id 1'),
        ('images', 'height', 'a number as "height" of the entry of id 1'),
        ('categories', 'id', 'an integer as "id" of the entry of index 1'),
        ('categories', 'name', 'a name as "name" of the entry of id 2'),
        ('annotations', 'id', 'an integer as "id" of the entry of index 1'),
        ('annotations', 'image_id', '"image_id" of the entry of id 1'),
        ('annotations', 'category_id', '"category_id" of the entry of id 1'),
        ('annotations', 'bbox', r'four numbers \(x, y, .* entry of id 1'),
        ('annotations', 'area', 'a number as "area" of the entry of id 1'),
    ],
)
def test_missing_fields_are_named(root, name, field, message, is_null):
    def spoil(content):
        content[name][1][field] = None
        if not is_null:
            del content[name][1][field]

    edit(root / 'boxes.json', spoil)
    got = 'None' if is_null else 'none'
    message += f' in {name} of /.*boxes.json, got {got}; correct it'
    with pytest.raises(ValueError, match=message):
        read(root, 'boxes')


@pytest.mark.parametrize(
    ('name', 'field', 'value'),
    [
        ('images', 'id', '1'),
        ('images', 'file_name', ''),
        ('images', 'height', '16'),
        ('images', 'width', NAN),
        ('categories', 'name', 3),
        ('annotations', 'id', True),
        ('annotations', 'image_id', 1.5),
        ('annotations', 'bbox', [1, 2, 3]),
        ('annotations', 'bbox', [1, 2, 3, None]),
        ('annotations', 'bbox', [NAN, 2, 3, 4]),
        ('annotations', 'area', 'large'),
    ],
)
def test_fields_of_another_kind_are_named(root, name, field, value):
    edit(root / 'boxes.json', lambda c: c[name][1].update({field: value}))
    message = f'"{field}" .* in {name} of /.*, got {re.escape(repr(value))};'
    with pytest.raises(ValueError, match=message):
        read(root, 'boxes')


@pytest.mark.parametrize('value', [None, [], 'a', [1, 2], [1, 2, None]])
def test_keypoints_of_another_kind_are_named(root, value):
    edit(
        root / 'points.json',
        lambda c: c['annotations'][1].update(keypoints=value),
    )
    if value == []:  # an instance without keypoints
        assert read(root, 'keypoints').text.startswith('23 instances')
        return
    message = r'numbers \(x, y and visibility .* "keypoints" .* id 1 in annot'
    with pytest.raises(ValueError, match=message):
        read(root, 'keypoints')


@pytest.mark.parametrize('name', ['images', 'categories', 'annotations'])
def test_entries_that_are_no_objects_are_named(root, name):
    edit(root / 'boxes.json', lambda c: c[name].append('a'))
    with pytest.raises(ValueError, match=rf'in {name} of .*, got .a. at inde'):
        read(root, 'boxes')


@pytest.mark.parametrize(
    ('name', 'field', 'value', 'message'),
    [
        ('images', 'id', 0, 'another "id" of each of the images of .* got 0'),
        ('images', 'file_name', './circle/0.jpg', 'each image once in .*json'),
        ('categories', 'id', 1, 'another "id" of each of the categories'),
        ('categories', 'name', 'circle', '"name" .* categories .*circle'),
        ('annotations', 'id', 0, 'another "id" of each of the annotations'),
        (
            'annotations', 'image_id', 99,
            '"image_id" of each .* got 1 others, such as 99 of .* id 1; add',
        ),
        (
            'annotations', 'category_id', 99,
            'categories as "category_id" .* got 1 others, such as 99',
        ),
    ],
)  # fmt: skip
def test_repeats_and_references_to_nothing_are_refused(
    root, name, field, value, message
):
    edit(root / 'boxes.json', lambda c: c[name][1].update({field: value}))
    with pytest.raises(ValueError, match=message):
        read(root, 'boxes')


def test_a_file_that_fits_is_returned(root):
    path = root / 'points.json'
    assert load_coco(str(path)) == json.loads(path.read_text())
