"""Label maps that do not fit the images, or are no classes, are refused."""

import cv2
import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from repfusion_mm.own_images.labels import masks as module
from tests.helpers.own_images import SIDE, read

FIRST = 'masks/circle/0.png'
LAST = 'masks/square/9.png'


def all_masks(root):
    return sorted((root / 'masks').rglob('*.png'))


def fill(path, value, dtype=np.uint8):
    Image.fromarray(np.full((SIDE, SIDE), value, dtype)).save(path)


def replace(root, suffix, dtype=np.uint8, **options):
    """Store a label map in another format."""
    pixels = np.asarray(Image.open(root / LAST)).astype(dtype)
    (root / LAST).unlink()
    path = (root / LAST).with_suffix(suffix)
    Image.fromarray(pixels).save(path, **options)
    return path


def ignore_all_but(root, number):
    for path in all_masks(root)[number:]:
        fill(path, 255)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


FAULTS = {
    'among the images': (
        lambda r: (
            (r / 'masks').rename(r / 'images/masks'),
            (r / 'masks').symlink_to(r / 'images/masks'),
        ),
        '--masks outside of the folder of the images',
    ),
    'of another size': (
        lambda r: cv2.imwrite(str(r / LAST), np.zeros((8, 9), np.uint8)),
        '9.png of 9 x 8 for an image of 16 x 16',
    ),
    'of colors': (
        lambda r: cv2.imwrite(str(r / LAST), np.zeros((16, 16, 3), np.uint8)),
        'one channel, .* got .*square/9.png of mode RGB; store the number',
    ),
    'of floats': (
        lambda r: replace(r, '.tiff', np.float32),
        'pixels are integers, got .*9.tiff of mode F',
    ),
    'of lossless WebP, which has three channels': (
        lambda r: replace(r, '.webp', lossless=True),
        'one channel, .* got .*9.webp of mode RGB',
    ),
    'JPEG': (
        lambda r: replace(r, '.jpg'),
        'without lossy compression, got .*9.jpg, .* as PNG',
    ),
    'JPEG in TIFF': (
        lambda r: replace(r, '.tiff', compression='jpeg'),
        'without lossy compression, got .*9.tiff',
    ),
    'above 255': (
        lambda r: fill(r / LAST, 65280, np.uint16),
        r'from 0 to 254, or 255 to ignore them, got 65280 in .*square/9.png',
    ),
    'negative': (
        lambda r: fill(replace(r, '.tiff', np.int32), -1, np.int32),
        'from 0 to 254, .*got -1 in .*9.tiff; number the classes from 0',
    ),
    'of 0 and 255': (
        lambda r: [
            cv2.imwrite(str(p), 255 * (cv2.imread(str(p), 0) > 0))
            for p in all_masks(r)
        ],
        r'two classes or more in label maps, got \[0\]',
    ),
    'without an image': (
        lambda r: (r / 'images/circle/0.jpg').unlink(),
        '1 of 24 without an image: circle/0.png',
    ),
    'of ignored pixels but two': (
        lambda r: ignore_all_but(r, 2),
        r'3 label maps or more with pixels that count, got 2 \(255',
    ),
    'fewer than the probe needs': (
        lambda r: [path.unlink() for path in all_masks(r)[1:]],
        '3 label maps or more .* got 1',
    ),
    'truncated': (
        lambda r: truncate(r / LAST),
        'label maps that can be read, got 1 that cannot: .*square/9.png '
        '.*truncated',
    ),
    'no image': (
        lambda r: (r / LAST).write_bytes(b'a'),
        'label maps that can be read, got 1 that cannot: .*square/9.png',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_label_maps_that_do_not_fit_are_refused(root, fault):
    spoil, message = FAULTS[fault]
    spoil(root)
    with pytest.raises(ValueError, match=message):
        read(root, 'masks')


def test_three_label_maps_suffice(root):
    ignore_all_but(root, 3)
    assert read(root, 'masks').text == '24 label maps, of classes up to 1'


@pytest.mark.parametrize(
    ('suffix', 'dtype'),
    [
        ('.png', np.uint16),
        ('.tiff', np.int32),
        ('.png', bool),
        ('.bmp', np.uint8),
    ],
)
def test_formats_that_mmseg_reads_unchanged_are_read(root, suffix, dtype):
    expected = np.asarray(Image.open(root / LAST)).astype(dtype)
    path = replace(root, suffix, dtype)
    loaded = LoadAnnotations()(
        dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False)
    )
    np.testing.assert_array_equal(loaded['gt_seg_map'], expected)
    assert read(root, 'masks').text == '24 label maps, of classes up to 2'


def test_the_pixels_of_label_maps_all_over_the_list_are_read(
    root, monkeypatch
):
    for path in all_masks(root)[1:]:
        fill(path, 0)
    fill(root / LAST, 7)
    assert all_masks(root)[-1] == root / LAST
    monkeypatch.setattr(module, 'MAX_MASKS', 5)
    assert read(root, 'masks').text == '24 label maps, of classes up to 7'
