import pytest
from mmcv import imread
from PIL import Image

from repfusion_mm.own_images.images import list_images, read_sizes
from tests.helpers.own_images import make_folder


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'cannot identify'),
        (b'a', 'cannot identify'),
        (b'P5 16 x 255 ', 'literal'),
    ],
)
def test_images_that_cannot_be_read_are_named(tmp_path, content, reason):
    make_folder(tmp_path)
    (tmp_path / 'images/circle/0.jpg').write_bytes(content)
    message = rf'got 1 that cannot: /.*circle/0.jpg \(.*{reason}'
    with pytest.raises(ValueError, match=message):
        list_images(str(tmp_path / 'images'))


def test_a_few_images_are_too_few(tmp_path):
    make_folder(tmp_path, num_images=6)
    with pytest.raises(ValueError, match=r'8 images or more .* got 6'):
        list_images(str(tmp_path / 'images'))


@pytest.mark.parametrize('extension', ['jpg', 'png', 'webp', 'tiff'])
@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_sizes_are_those_of_the_loaded_images(
    tmp_path, extension, orientation
):
    """Cameras store portraits as landscapes, to be rotated."""
    path = tmp_path / f'a.{extension}'
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (12, 8)).save(path, exif=exif)
    height, width, _ = imread(str(path)).shape
    assert read_sizes(str(tmp_path), [path.name]) == [(width, height)]
