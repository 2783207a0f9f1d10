"""Keypoints and boxes that a probe could not use are refused."""

import json

import pytest
from mmengine.registry import DATASETS

from repfusion_mm.analysis.probe.tasks import KeypointTask
from repfusion_mm.own_images.config import fill_in
from repfusion_mm.own_images.labels.coco import counts_box, counts_points
from tests.helpers.own_images import edit, read

NAN = float('nan')


def change(root, name, number=24, **values):
    """Change the first annotations of a file."""

    def function(content):
        for annotation in content['annotations'][:number]:
            annotation.update(values)

    edit(root / name, function)


def keep(root, name, number):
    """Keep the annotations and images with the lowest ids."""

    def function(content):
        for entries in (content['annotations'], content['images']):
            del entries[number:]

    edit(root / name, function)


BOX_FAULTS = {
    'other names': (
        lambda r: edit(
            r / 'boxes.json',
            lambda c: c['images'][0].update(file_name='0.jpg'),
        ),
        r"1 of 24, such as '0.jpg' \(there is 'circle/0.jpg'\)",
    ),
    'other sizes': (
        lambda r: edit(
            r / 'boxes.json', lambda c: c['images'][0].update(width=640)
        ),
        "640 x 16 for 'circle/0.jpg', which has 16 x 16",
    ),
    'crowds': (
        lambda r: change(r, 'boxes.json', iscrowd=1),
        'boxes or keypoints in .*, got 0 boxes that count among 24 annot',
    ),
    'relative coordinates': (
        lambda r: change(r, 'boxes.json', bbox=[0.1, 0.1, 0.5, 0.5]),
        'got 0 boxes that count',
    ),
    'no annotations': (
        lambda r: edit(r / 'boxes.json', lambda c: c['annotations'].clear()),
        'got 0 boxes that count among 0 annotations of 24 images',
    ),
    'two images': (
        lambda r: keep(r, 'boxes.json', 2),
        'in 3 images or more, got 2 boxes .* of 2 images',
    ),
    'more categories than a label map has': (
        lambda r: edit(
            r / 'boxes.json',
            lambda c: c['categories'].extend(
                dict(id=i, name=str(i)) for i in range(3, 256)
            ),
        ),
        'less than 255 categories .* got 255',
    ),
}


@pytest.mark.parametrize('fault', BOX_FAULTS)
def test_boxes_that_do_not_fit_are_refused(root, fault):
    spoil, message = BOX_FAULTS[fault]
    spoil(root)
    with pytest.raises(ValueError, match=message):
        read(root, 'boxes')


POINT_FAULTS = {
    'other numbers': (
        lambda r: change(r, 'points.json', 1, keypoints=[1, 1, 2]),
        r'same number of keypoints .* got \{1: 1, 3: 23\}',
    ),
    'invisible': (
        lambda r: change(r, 'points.json', 22, keypoints=[5, 5, 0] * 3),
        '3 instances or more with keypoints that count .* got 2 of 24',
    ),
    'zeros': (
        lambda r: change(r, 'points.json', keypoints=[0, 0, 0] * 3),
        'got 0 of 24',
    ),
    'NaN': (
        lambda r: change(r, 'points.json', keypoints=[NAN, 5, 2] * 3),
        'got 0 of 24',
    ),
    'outside of their boxes': (
        lambda r: change(r, 'points.json', keypoints=[500, 5, 2] * 3),
        'got 0 of 24',
    ),
    'one instance': (
        lambda r: keep(r, 'points.json', 1),
        'got 1 of 1',
    ),
    'no boxes': (
        lambda r: change(r, 'points.json', 1, bbox=None),
        'four numbers .* "bbox" of the entry of id 0',
    ),
    'repeated instances': (
        lambda r: edit(
            r / 'points.json',
            lambda c: c['annotations'].append(
                dict(c['annotations'][5], id=24)
            ),
        ),
        r'each instance once in .*, got 1 .* such as \[5, \[9, .*remove',
    ),
}


@pytest.mark.parametrize('fault', POINT_FAULTS)
def test_keypoints_that_do_not_fit_are_refused(root, fault):
    spoil, message = POINT_FAULTS[fault]
    spoil(root)
    with pytest.raises(ValueError, match=message):
        read(root, 'keypoints')


def test_a_keypoint_of_two_instances_is_needed(root):
    keep(root, 'points.json', 3)

    def function(content):
        for i, annotation in enumerate(content['annotations']):
            annotation['keypoints'] = [8, 8, 0] * 3
            annotation['keypoints'][3 * i + 2] = 2
            annotation['bbox'] = [0, 0, 16, 16]

    edit(root / 'points.json', function)
    with pytest.raises(ValueError, match='two of them with the same one'):
        read(root, 'keypoints')
    change(root, 'points.json', 2, keypoints=[8, 8, 2] * 3)
    assert read(root, 'keypoints').text.startswith('3 instances')


def test_several_instances_of_an_image_are_read(root):
    edit(
        root / 'points.json',
        lambda c: [a.update(image_id=0) for a in c['annotations'][:3:2]],
    )
    expected = '24 instances of 3 keypoints in 23 images'
    assert read(root, 'keypoints').text == expected


def probe_dataset(root, labels):
    """Return the dataset of the probe, which mmpose or mmdet reads."""
    variables = dict(
        data_root=str(root / 'images'), task=labels.task,
        labels=labels.source, names=labels.names, image_size=256, timestep=0,
    )  # fmt: skip
    return DATASETS.build(fill_in(variables, 'ddpm_custom').probe_dataset)


def entries_of(path):
    content = json.loads(path.read_text())
    files = {file['id']: file for file in content['images']}
    return [(a, files[a['image_id']]) for a in content['annotations']]


def test_keypoints_count_as_in_the_probe(root):
    changes = [
        dict(keypoints=[1, 1, 0, 9, 9, 2, 4, 4, 1], bbox=[0, 0, 12, 12]),
        dict(keypoints=[NAN, 5, 2, 5, NAN, 2, 5, 5, 2], bbox=[2, 2, 8, 8]),
        # The crop is 10 wide, from 1 to 11.
        dict(keypoints=[0.9, 6, 2, 1.1, 6, 2, 10.8, 6, 2], bbox=[2, 4, 8, 4]),
        dict(keypoints=[6, 0.9, 2, 6, 1.1, 2, 6, 11.1, 2], bbox=[2, 4, 8, 4]),
        # The box is clipped to the image.
        dict(keypoints=[2, 2, 2, 14, 2, 2, 2, 14, 2], bbox=[-30, 0, 36, 6]),
        dict(iscrowd=1),
        dict(num_keypoints=0),
        dict(bbox=[3, 3, 0, 9]),
        dict(bbox=[40, 3, 5, 9]),
    ]

    def function(content):
        for annotation, values in zip(content['annotations'], changes):
            annotation.update(values)

    edit(root / 'points.json', function)
    labels = read(root, 'keypoints')
    found = {}
    for item in probe_dataset(root, labels):
        sample = item['data_samples']
        points = KeypointTask.read(sample, 255)
        if points is not None:
            found[sample.id] = (points[:, 2] > 0).tolist()
    expected = {}
    for annotation, file in entries_of(root / 'points.json'):
        counts = counts_points(annotation, file)
        if counts.any():
            expected[annotation['id']] = counts.tolist()
    assert found == expected
    assert [*found][:5] == [0, 1, 2, 3, 4]
    assert found[0] == [False, True, True]
    assert found[2] == [False, True, True]
    assert found[4] == [True, False, False]
    assert labels.text == '20 instances of 3 keypoints in 20 images'


def test_boxes_count_as_in_the_probe(root):
    changes = [
        dict(iscrowd=1),
        dict(ignore=1),
        dict(area=0),
        dict(bbox=[3, 3, 0.9, 4]),
        dict(bbox=[16, 3, 5, 9]),
        dict(bbox=[-5, 3, 5, 9]),
        dict(bbox=[-5, -5, 6, 6]),
    ]

    def function(content):
        for annotation, values in zip(content['annotations'], changes):
            annotation.update(values)

    edit(root / 'boxes.json', function)
    labels = read(root, 'boxes')
    dataset = probe_dataset(root, labels)
    found = [
        any(
            not i['ignore_flag'] for i in dataset.get_data_info(n)['instances']
        )
        for n in range(len(dataset))
    ]
    entries = entries_of(root / 'boxes.json')
    assert found == [bool(counts_box(*entry)) for entry in entries]
    assert found == [False] * 6 + [True] * 18
    assert labels.text == '18 boxes of 2 classes in 24 images'


def test_names_are_in_the_order_of_the_classes_of_the_probe(root):
    edit(root / 'boxes.json', lambda c: c['categories'].reverse())
    labels = read(root, 'boxes')
    assert labels.names == ('square', 'circle')
    dataset = probe_dataset(root, labels)
    numbers = [
        dataset.get_data_info(i)['instances'][0]['bbox_label']
        for i in range(2)
    ]
    assert [labels.names[i] for i in numbers] == ['circle', 'square']
