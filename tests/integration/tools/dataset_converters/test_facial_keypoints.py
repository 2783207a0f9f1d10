"""The Facial Keypoints data from its archive: complete and damaged."""

import json
import re

import cv2
import numpy as np
import pytest

from tests.helpers import layouts
from tests.helpers.launcher import load_script, run_main

TOOL = 'tools/dataset_converters/facial_keypoints.py'


@pytest.fixture
def faces(tmp_path):
    root = tmp_path / 'data'
    layouts.save_facial_keypoints(root)
    return root


def convert(root, *options, expect=0):
    return run_main(
        TOOL, root, '--out', root.parent / 'out', *options, expect=expect
    )


def sample(image, points):
    """Return the bilinear values of a channel at x, y."""
    x, y = points.astype(np.float32).T
    image = image.astype(np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR).ravel()


def ramp():
    """Return an image whose first channel is x, and the second is y."""
    x, y = np.meshgrid(np.arange(200), np.arange(180))
    return np.stack([x, y, 0 * x], 2).astype(np.float32)


def test_all_frames_of_a_person_are_in_one_split(faces):
    output = convert(faces).output
    out = faces.parent / 'out'
    crops = {
        split: sorted(path.name for path in (out / 'images' / split).iterdir())
        for split in ('train', 'test')
    }
    assert crops == dict(
        train=['test_Carl_Gauss_20.jpg'],
        test=[
            'test_Ada_Byron_00.jpg',
            'training_Ada_Byron_00.jpg',
            'training_Ada_Byron_01.jpg',
            'training_Ada_Byron_10.jpg',
        ],
    )
    assert 'train.json: 1 faces of 1 persons' in output
    assert 'test.json: 4 faces of 1 persons' in output
    assert 'note: 1 files of' in output
    assert 'the complete dataset has 4232 faces, got 5' in output


def test_crops_of_an_earlier_split_are_refused(faces):
    """Without a person, others are held out; a teacher reads the folder."""
    convert(faces)
    (faces.parent / 'out/images/train/training_Ada_Byron_00.jpg').touch()
    line = convert(faces, expect=1).last_line
    assert "got 1 others (['training_Ada_Byron_00.jpg'])" in line
    assert 'remove the folder' in line


def test_every_fourth_person_is_held_out():
    tables = dict(
        training={f'Person_{c}_00.jpg': None for c in 'GABCDEF'},
        test={'Person_E_01.jpg': None},
    )
    splits = load_script(TOOL).split_persons(tables)
    assert [str(path) for path in splits['test']] == [
        'training/Person_A_00.jpg',
        'training/Person_E_00.jpg',
        'test/Person_E_01.jpg',
    ]
    assert len(splits['train']) == 5


def test_the_box_is_the_inner_part_of_the_crop_with_a_margin_of_a_quarter(
    faces,
):
    convert(faces)
    path = faces.parent / 'out/annotations/test.json'
    for annotation in json.loads(path.read_text())['annotations']:
        assert annotation['bbox'] == [8, 8, 64, 64]
        assert annotation['center'] == [40, 40]
        assert annotation['scale'] * 200 == 64
        points = np.reshape(annotation['keypoints'], (68, 3))[:, :2]
        low, high = points.min(axis=0), points.max(axis=0)
        # The square has whole pixels, of about 80 / 156 pixels of the crop.
        assert max(high - low) == pytest.approx(64 / 1.25, abs=0.5)
        np.testing.assert_allclose((low + high) / 2, 39.5, atol=0.5)


@pytest.mark.parametrize(
    ('low', 'high', 'size'), [(40, 140, 20), (40, 140, 40), (90, 100, 80)]
)
def test_points_move_with_the_pixels(low, high, size):
    points = np.random.default_rng(0).uniform(low, high, (68, 2))
    image, moved = load_script(TOOL).crop(ramp(), points, size)
    assert image.shape == (size, size, 3)
    for channel in (0, 1):
        # Without its offset of half a pixel, the mean would be -0.4 pixels
        # when enlarging, and 1.4 or more when shrinking.
        error = sample(image[..., channel], moved) - points[:, channel]
        assert abs(error.mean()) < 0.02
        assert abs(error).max() < 0.2


def test_pixels_outside_of_the_image_repeat_its_border():
    points = np.array([[10.8, 80.0], [75.2, 100.0]])
    image, moved = load_script(TOOL).crop(ramp(), points, 101)
    # The square is 101 pixels wide, from x = -7 and y = 40: not resized.
    np.testing.assert_allclose(moved, [[17.8, 40], [82.2, 60]])
    assert image[50, :, 0].tolist() == 7 * [0] + list(range(94))
    assert image[:, 0, 1].tolist() == list(range(40, 141))


def test_mmpose_reads_the_crops_and_their_points(faces):
    pytest.importorskip('mmpose')
    from mmpose.datasets import Face300WDataset

    convert(faces)
    dataset = Face300WDataset(
        data_root=str(faces.parent / 'out'),
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
    )
    assert len(dataset) == 1
    sample = dataset.get_data_info(0)
    assert cv2.imread(sample['img_path']).shape == (80, 80, 3)
    assert sample['img_path'].endswith('images/train/test_Carl_Gauss_20.jpg')
    np.testing.assert_allclose(sample['bbox'], [[8, 8, 72, 72]], rtol=1e-6)
    np.testing.assert_allclose(sample['bbox_center'], [[40, 40]])
    np.testing.assert_allclose(sample['bbox_scale'], [[64, 64]])
    assert sample['keypoints'].shape == (1, 68, 2)
    assert (sample['keypoints_visible'] == 1).all()


def drop_image(root):
    (root / 'training/Ada_Byron_01.jpg').unlink()


def truncate_image(root):
    path = root / 'test/Carl_Gauss_20.jpg'
    path.write_bytes(path.read_bytes()[:200])


def drop_table(root):
    (root / 'test_frames_keypoints.csv').unlink()


def edit(root, change):
    """Change the fields of the second image of training, which is line 3."""
    path = root / 'training_frames_keypoints.csv'
    lines = path.read_text().splitlines()
    lines[2] = ','.join(change(lines[2].split(',')))
    path.write_text('\n'.join(lines))


def empty_table(root):
    path = root / 'test_frames_keypoints.csv'
    path.write_text(path.read_text().splitlines()[0])


def short_row(root):
    edit(root, lambda fields: fields[:-1])


def no_number(root):
    edit(root, lambda fields: [*fields[:-1], 'x'])


def infinite(root):
    edit(root, lambda fields: [*fields[:-1], 'inf'])


def far_away(root):
    edit(root, lambda fields: [*fields[:-1], '361'])


def repeat_name(root):
    edit(root, lambda fields: ['Ada_Byron_00.jpg', *fields[1:]])


def path_outside(root):
    edit(root, lambda fields: ['../test/Ada_Byron_00.jpg', *fields[1:]])


def one_point(root):
    edit(root, lambda fields: [fields[0]] + 68 * ['50', '60'])


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop_image, r"none for 1: \['Ada_Byron_01.jpg'\]"),
        (truncate_image, 'Carl_Gauss_20.jpg, got a damaged file'),
        (drop_table, "test_frames_keypoints.csv in '.*data', got none"),
        (empty_table, 'test_frames_keypoints.csv, got an empty table'),
        (short_row, '136 coordinates .*line 3, got 136 fields'),
        (no_number, '136 finite numbers .*line 3, got'),
        (infinite, '136 finite numbers .*line 3, got'),
        (far_away, r'near .*Ada_Byron_01.jpg of 200 x 180 .*361\.0'),
        (repeat_name, "each once, .*line 3, got 'Ada_Byron_00.jpg'"),
        (path_outside, "file name, .*line 3, got '../test/Ada_Byron_00.jpg'"),
        (one_point, r'2 distinct points .*line 3, got 68 times \[50.0, 60.0'),
    ],
)
def test_damaged_data_are_refused_and_nothing_is_written(
    faces, damage, message
):
    damage(faces)
    assert re.search(message, convert(faces, expect=1).last_line)
    assert not (faces.parent / 'out').exists()


def test_an_interrupted_conversion_leaves_no_annotations(faces, monkeypatch):
    convert(faces)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(load_script(TOOL), 'crop', interrupt)
        convert(faces, '--size', 40, expect=130)
    assert not list((faces.parent / 'out/annotations').iterdir())
    convert(faces, '--size', 40)
    crops = (faces.parent / 'out/images').glob('*/*.jpg')
    assert {cv2.imread(str(path)).shape for path in crops} == {(40, 40, 3)}
