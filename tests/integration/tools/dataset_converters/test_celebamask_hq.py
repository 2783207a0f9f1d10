"""CelebAMask-HQ from its archive: complete, damaged and partly converted."""

import os
import re
import signal

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from repfusion_mm.datasets.celebamask_hq import CelebAMaskHQDataset
from tests.helpers import layouts
from tests.helpers.launcher import load_script, run_main

TOOL = 'tools/dataset_converters/celebamask_hq.py'


def convert(root, jobs=1, expect=0):
    return run_main(TOOL, root, '--jobs', jobs, expect=expect)


@pytest.fixture
def faces(tmp_path):
    root = tmp_path / 'CelebAMask-HQ'
    layouts.save_celebamask_hq(root, num_images=4)
    return root


def test_parts_are_drawn_in_order_and_the_split_is_official(faces):
    """The reference implementation splits without a seed."""
    convert(faces, jobs=2)
    label_map = cv2.imread(
        str(faces / 'label_maps/1.png'), cv2.IMREAD_UNCHANGED
    )
    assert label_map.shape == (512, 512)
    # In the miniature, each part starts 60 rows below the previous one.
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


def test_second_call_replaces_only_damaged_label_maps(faces):
    convert(faces)
    paths = [faces / f'label_maps/{i}.png' for i in range(4)]
    before = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    paths[2].write_bytes(before[2][:100])
    replace_pixels(paths[3], np.full((512, 512), 19, np.uint8))
    convert(faces)
    assert [path.read_bytes() for path in paths] == before
    assert paths[0].stat().st_mtime_ns == times[0]
    replace_pixels(paths[3], np.zeros((256, 256), np.uint8))
    convert(faces)
    assert paths[3].read_bytes() == before[3]


def replace_pixels(path, values):
    """Change the pixels of a label map, but not the parts that it names."""
    info = PngImagePlugin.PngInfo()
    with Image.open(path) as image:
        info.add_text('parts', image.info['parts'])
    Image.fromarray(values).save(path, pnginfo=info)


def drop_masks(root):
    for path in root.glob('*/0/00002_*.png'):
        path.unlink()


def drop_face(root):
    (root / 'CelebA-HQ-img/3.jpg').unlink()


def drop_partition(root):
    path = root / 'list_eval_partition.txt'
    path.write_text('\n'.join(path.read_text().split('\n')[1:]))


def unknown_mask(root):
    (root / 'CelebAMask-HQ-mask-anno/0/00000_beard.png').write_bytes(b'')


def append(path, line):
    path.write_text(path.read_text() + line)


def repeat_id(root):
    path = root / 'CelebA-HQ-to-CelebA-mapping.txt'
    append(path, path.read_text().splitlines()[1])


def malformed_id(root):
    append(root / 'CelebA-HQ-to-CelebA-mapping.txt', 'x\t0\t000200.jpg')


def empty_mapping(root):
    (root / 'CelebA-HQ-to-CelebA-mapping.txt').write_text('a header\n')


def malformed_partition(root):
    append(root / 'list_eval_partition.txt', '000199.jpg 7')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (drop_masks, r'part masks for all 4 ids .* for 1: \[2\]'),
        (drop_face, r'images for all 4 ids .* for 1: \[3\]'),
        (drop_partition, r"line 2, each .*got '0"),
        (unknown_mask, 'got .*00000_beard.png'),
        (repeat_id, r"line 6, each id once.*got '0"),
        (malformed_id, r"line 6, .*got 'x.*000200.jpg'"),
        (empty_mapping, 'expected images in .*mapping.txt, got none'),
        (malformed_partition, r'line 5, got .000199.jpg 7'),
    ],
)
def test_a_damaged_archive_is_refused_and_nothing_is_written(
    faces, damage, message
):
    damage(faces)
    assert re.search(message, convert(faces, expect=1).last_line)
    assert not (faces / 'label_maps').exists()
    assert not (faces / 'splits').exists()


def test_damaged_masks_are_named_and_no_split_is_written(faces):
    mask = faces / 'CelebAMask-HQ-mask-anno/0/00001_nose.png'
    mask.write_bytes(mask.read_bytes()[:50])
    other = faces / 'CelebAMask-HQ-mask-anno/0/00002_hair.png'
    cv2.imwrite(str(other), np.zeros((64, 64), np.uint8))
    error = convert(faces, expect=1).last_line
    assert 'expected to write 4 label maps, got 2 errors' in error
    assert '00001_nose.png, got a damaged file' in error
    assert '00002_hair.png, got (64, 64)' in error
    assert sorted(p.name for p in (faces / 'label_maps').iterdir()) == [
        '0.png',
        '3.png',
    ]
    assert not (faces / 'splits').exists()


def test_label_maps_of_a_partly_unpacked_archive_are_updated(faces):
    held = faces.parent / 'held'
    held.mkdir()
    for path in faces.glob('*/0/*_skin.png'):
        path.rename(held / path.name)
    assert 'masks: skin 0, l_brow 4' in convert(faces).output
    for path in held.iterdir():
        path.rename(faces / 'CelebAMask-HQ-mask-anno/0' / path.name)
    output = convert(faces).output
    label_map = cv2.imread(
        str(faces / 'label_maps/1.png'), cv2.IMREAD_UNCHANGED
    )
    assert 1 in label_map
    assert 'masks: skin 4' in output
    assert 'note: the complete dataset has 30000 images' in output


def test_images_of_another_size_are_refused(faces):
    layouts.write_image(faces / 'CelebA-HQ-img/2.jpg', 512)
    (faces / 'CelebA-HQ-img/3.jpg').write_bytes(b'')
    truncated = faces / 'CelebA-HQ-img/1.jpg'
    truncated.write_bytes(truncated.read_bytes()[:-500])
    error = convert(faces, expect=1).last_line
    assert '2.jpg, got (512, 512)' in error
    assert '3.jpg, got a damaged file' in error
    assert '1.jpg, got a damaged file' in error


def test_files_of_file_managers_and_blank_lines_are_ignored(faces):
    (faces / 'CelebAMask-HQ-mask-anno/0/._00001_hair.png').touch()
    append(faces / 'list_eval_partition.txt', '\n\n')
    convert(faces)
    assert len(list((faces / 'label_maps').iterdir())) == 4


def test_a_killed_process_ends_the_conversion(faces, monkeypatch):
    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(load_script(TOOL), 'merge_masks', die)
    result = convert(faces, jobs=2, expect=1)
    assert 'got one that was killed' in result.last_line


def test_a_missing_archive_is_named(tmp_path):
    line = convert(tmp_path, expect=1).last_line
    assert str(tmp_path) in line
    assert 'got no such file; see docs/benchmarks/celebamask_hq.md' in line


def test_the_parts_are_the_classes_of_the_dataset():
    classes = CelebAMaskHQDataset.METAINFO['classes']
    assert classes[1:] == load_script(TOOL).PARTS
