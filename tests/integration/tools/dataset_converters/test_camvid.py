"""CamVid of the SegNet tutorial: complete, damaged and converted twice."""

import re

import cv2
import numpy as np
import pytest

from tests.helpers import layouts
from tests.helpers.launcher import load_script, run_main

TOOL = 'tools/dataset_converters/camvid.py'


@pytest.fixture
def camvid(tmp_path):
    root = tmp_path / 'CamVid'
    layouts.save_camvid(root)
    return root


def convert(root, *options, expect=0):
    return run_main(
        TOOL, root, '--out', root.parent / 'out', *options, expect=expect
    )


def read(path):
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return array[..., ::-1] if array.ndim == 3 else array


def test_void_is_255_and_all_else_is_as_before(camvid):
    output = convert(camvid).output
    out = camvid.parent / 'out'
    for split in ('train', 'val', 'test'):
        names = (out / f'{split}.txt').read_text().splitlines()
        assert names == [f'{split}_2', f'{split}_1']
        for name in names:
            frame = read(out / f'images/{split}/{name}.png')
            original = read(camvid / f'{split}/{name}.png')
            np.testing.assert_array_equal(frame, original)
            labels = read(out / f'labels/{split}/{name}.png')
            original = read(camvid / f'{split}annot/{name}.png')
            assert (labels[original == 11] == 255).all()
            known = original < 11
            np.testing.assert_array_equal(labels[known], original[known])
        # 24 of 300 pixels.
        assert f'{split}: 2 images of 20 x 15 pixels, 8.0% void' in output
    assert "'val': 101, 'test': 233} images, got {'train': 2" in output


@pytest.mark.parametrize('kind', ['images', 'labels'])
def test_frames_of_an_earlier_conversion_are_refused(camvid, kind):
    convert(camvid)
    path = camvid.parent / 'out' / kind / 'train/other.png'
    path.touch()
    line = convert(camvid, expect=1).last_line
    assert "got 1 others (['other.png'])" in line
    path.unlink()
    convert(camvid)


def test_frames_are_averaged_and_labels_are_those_of_the_centers(camvid):
    convert(camvid, '--width', 4)
    out = camvid.parent / 'out'
    blocks = np.arange(12).reshape(3, 4)
    # One of 25 pixels has 25 more red.
    expected = np.stack([20 * blocks + 1, 10 * blocks, 100 + 0 * blocks], 2)
    frame = read(out / 'images/val/val_1.png')
    np.testing.assert_array_equal(frame, expected)
    blocks[2, 3] = 255
    labels = read(out / 'labels/val/val_1.png')
    np.testing.assert_array_equal(labels, blocks)


def test_mmseg_reads_the_images_and_their_labels(camvid):
    pytest.importorskip('mmseg')
    from mmengine.registry import init_default_scope
    from mmseg.datasets import BaseSegDataset

    convert(camvid)
    init_default_scope('mmseg')
    dataset = BaseSegDataset(
        data_root=str(camvid.parent / 'out'),
        ann_file='train.txt',
        data_prefix=dict(img_path='images/train', seg_map_path='labels/train'),
        img_suffix='.png',
        metainfo=dict(classes=load_script(TOOL).CLASSES),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
        ],
    )
    assert len(dataset) == 2
    assert dataset[0]['img_path'].endswith('images/train/train_2.png')
    labels = dataset[0]['gt_seg_map']
    assert labels.shape == dataset[0]['img'].shape[:2]
    assert np.unique(labels).tolist() == [*range(11), 255]


def drop_files(root):
    (root / 'val/val_1.png').unlink()
    (root / 'valannot/val_2.png').unlink()


def drop_list(root):
    (root / 'test.txt').unlink()


def empty_list(root):
    (root / 'val.txt').write_text('\n')


def truncate_frame(root):
    path = root / 'train/train_1.png'
    path.write_bytes(path.read_bytes()[:-40])


def truncate_labels(root):
    path = root / 'trainannot/train_1.png'
    path.write_bytes(path.read_bytes()[:60])


def large_labels(root):
    path = root / 'trainannot/train_1.png'
    cv2.imwrite(str(path), np.zeros((30, 40), np.uint8))


def large_pair(root):
    path = root / 'trainannot/train_1.png'
    cv2.imwrite(str(path), np.zeros((30, 40), np.uint8))
    path = root / 'train/train_1.png'
    cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))


def unknown_label(root):
    path = root / 'testannot/test_1.png'
    cv2.imwrite(str(path), np.full((15, 20), 12, np.uint8))


def colored_labels(root):
    path = root / 'testannot/test_1.png'
    cv2.imwrite(str(path), np.zeros((15, 20, 3), np.uint8))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop_files, r"2 of 4: \['valannot/val_2.png', 'val/val_1.png'\]"),
        (drop_list, r"expected test.txt in '.*CamVid', got none"),
        (empty_list, 'val.txt, got an empty list'),
        (truncate_frame, 'image at .*train/train_1.png, got a damaged file'),
        (truncate_labels, 'image at .*annot/train_1.png, got a damaged file'),
        (large_labels, '20 x 15 pixels, .*annot/train_1.png, got 40 x 30'),
        (large_pair, '20 x 15 .*got 40 x 30 in .*train/train_1.png'),
        (unknown_label, 'up to 11 in .*annot/test_1.png, got .* up to 12'),
        (
            colored_labels,
            r'one channel .*annot/test_1.png, got .* \(15, 20, 3\)',
        ),
    ],
)
def test_a_damaged_camvid_is_refused_and_nothing_is_written(
    camvid, damage, message
):
    damage(camvid)
    assert re.search(message, convert(camvid, expect=1).last_line)
    assert not (camvid.parent / 'out').exists()


@pytest.mark.parametrize('width', [6, 40])
def test_a_width_of_another_aspect_ratio_or_a_larger_one_is_refused(
    camvid, width
):
    error = convert(camvid, '--width', width, expect=1).last_line
    assert 'at most 20 that keeps the aspect ratio of 20 x 15' in error
    assert f'got {width}; give a multiple of 4' in error
    assert not (camvid.parent / 'out').exists()


def test_an_interrupted_conversion_leaves_no_list(camvid, monkeypatch):
    """Or the lists of the call before would stand for other images."""
    convert(camvid)
    out = camvid.parent / 'out'
    original = load_script(TOOL).write

    def interrupt(frame, *args):
        if frame.name == 'val_1.png':
            raise KeyboardInterrupt
        return original(frame, *args)

    with monkeypatch.context() as patch:
        patch.setattr(load_script(TOOL), 'write', interrupt)
        convert(camvid, '--width', 4, expect=130)
    assert not list(out.glob('*.txt'))
    convert(camvid, '--width', 4)
    assert len(list(out.glob('*.txt'))) == 3
    sizes = {read(path).shape[:2] for path in out.glob('*/*/*.png')}
    assert sizes == {(3, 4)}


def test_the_original_folder_is_not_overwritten(camvid):
    before = (camvid / 'train.txt').read_text()
    error = run_main(TOOL, camvid, '--out', camvid, expect=1).last_line
    assert 'as --out, got the same' in error
    assert (camvid / 'train.txt').read_text() == before
