"""Images that a loader makes black or white are refused, all others pass."""

import io

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.logging import MMLogger
from PIL import Image

from repfusion_mm.engine.preflight import stored_images
from repfusion_mm.engine.preflight.stored_values import check_stored_values

RAMP = np.add.outer(np.arange(40), np.arange(60)) / 98
COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)
BACKENDS = ('cv2', 'pillow')


class Files(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=path) for path in self._metainfo['paths']]


class Scale(BaseTransform):
    """A loader of a user, which maps values linearly or to few values."""

    def __init__(self, convert):
        self.convert = convert

    def transform(self, results):
        values = cv2.imread(results['img_path'], cv2.IMREAD_UNCHANGED)
        results['img'] = self.convert(values)
        return results


def load(backend='cv2', **kwargs):
    return dict(
        type='repfusion_mm.LoadImage', imdecode_backend=backend, **kwargs
    )


def check(*paths, step=None):
    check_stored_values(
        Files(
            metainfo=dict(paths=[*map(str, paths)]), pipeline=[step or load()]
        )
    )


def write(path, values):
    assert cv2.imwrite(str(path), values)
    return path


def write_pil(path, image, **kwargs):
    image.save(path, **kwargs)
    return path


def scaled(values, limit, dtype=np.uint16):
    return (values * limit).astype(dtype)


@pytest.mark.parametrize('suffix', ['.png', '.tiff', '.pgm', '.jp2'])
@pytest.mark.parametrize('bits', [8, 9, 10, 12, 14, 15, 16])
def test_16_bit_files_are_refused_if_they_become_black_or_white(
    tmp_path, bits, suffix
):
    path = write(tmp_path / f'a{suffix}', scaled(RAMP, 2**bits - 1))
    for backend in BACKENDS:
        image = load(backend)
        loaded = np.sort(_load(path, image), axis=None)
        is_black, is_white = loaded[-1] < 64, loaded[len(loaded) // 2] > 254
        if not is_black and not is_white:
            check(path, step=image)
            continue
        with pytest.raises(ValueError, match=f'255 / {2**bits - 1}') as caught:
            check(path, step=image)
        assert ('clips' in str(caught.value)) == is_white


def _load(path, step):
    return Files(metainfo=dict(paths=[str(path)]), pipeline=[step])[0]['img']


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('bits', [8, 12, 14, 16])
def test_colors_of_16_bit_files(tmp_path, bits, backend, suffix):
    path = write(tmp_path / f'a{suffix}', scaled(COLORS, 2**bits - 1))
    if bits == 16:
        check(path, step=load(backend))
        return
    with pytest.raises(ValueError, match=r'it keeps \d+ of \d+ levels'):
        check(path, step=load(backend))


@pytest.mark.parametrize(
    ('limit', 'dtype', 'match'),
    [
        (1, np.float32, r'keeps 2 of \d+ levels.*255 / 1\)'),
        (255, np.float32, None),
        (4095, np.float32, '255 / 4095'),
        (4095, np.int32, '255 / 4095'),
        (255, np.int32, None),
    ],
)
def test_32_bit_files(tmp_path, limit, dtype, match):
    image = Image.fromarray(scaled(RAMP, limit, dtype))
    path = write_pil(tmp_path / 'a.tif', image)
    if match is None:
        check(path, step=load('pillow'))
        return
    with pytest.raises(ValueError, match=match):
        check(path, step=load('pillow'))


def test_the_backend_that_works_is_named(tmp_path):
    path = write(tmp_path / 'a.png', scaled(RAMP, 65535))
    with pytest.raises(ValueError, match='set imdecode_backend="cv2"'):
        check(path, step=load('pillow'))
    check(path)


def pixels(size=(60, 60)):
    return np.random.default_rng(0).integers(0, 4096, size).astype(np.uint16)


RIGHT = {
    'scaled': lambda v: (v >> 4).astype(np.uint8),
    'scaled, float': lambda v: v * (255 / 4095),
    'in [0, 1]': lambda v: v / 4095,
    'unchanged': lambda v: v,
    'window': lambda v: np.clip((v - 300.0) * 2, 0, 255).astype(np.uint8),
    'binary': lambda v: (v > 2000).astype(np.uint8) * 255,
    'resized': lambda v: cv2.resize(v, (20, 30)) / 16,
}


@pytest.mark.parametrize('name', RIGHT)
def test_loaders_of_a_user_pass_by_what_they_give(tmp_path, name):
    path = write(tmp_path / 'a.png', pixels())
    check(path, step=Scale(RIGHT[name]))


@pytest.mark.parametrize(
    'convert',
    [
        lambda v: (v >> 8).astype(np.uint8),
        lambda v: np.minimum(v, 255),
        lambda v: (v > 2000).astype(np.uint8),
    ],
)
def test_loaders_of_a_user_fail_by_what_they_give(tmp_path, convert):
    path = write(tmp_path / 'a.png', pixels())
    with pytest.raises(ValueError, match='from the loader of Files'):
        check(path, step=Scale(convert))


def test_files_are_judged_together(tmp_path):
    """A dark image among others is right, and so is a black slice."""
    full = write(tmp_path / 'full.png', scaled(RAMP, 65535))
    dark = write(tmp_path / 'dark.png', scaled(RAMP, 2000))
    black = write(tmp_path / 'black.png', np.zeros((40, 60), np.uint16))
    check(dark, full)
    check(black)
    eight = write(tmp_path / 'eight.png', scaled(RAMP, 255, np.uint8))
    with pytest.raises(ValueError, match='255 / 2047'):
        check(*[eight] * 3, black, dark)


def test_outliers_and_sparse_images(tmp_path):
    marker = scaled(RAMP, 4095)
    marker[0, 0] = 65535
    with pytest.raises(ValueError, match='255 / 4095'):
        check(write(tmp_path / 'marker.png', marker))
    cells = np.full((400, 400), 90, np.uint16)
    cells[:20, :20] = np.linspace(0, 65535, 400).reshape(20, 20)
    check(write(tmp_path / 'cells.png', cells))
    offset = np.random.default_rng(0).integers(30000, 31000, (60, 60))
    check(write(tmp_path / 'offset.png', offset.astype(np.uint16)))


def make_8_bit_images():
    color = Image.fromarray(scaled(COLORS, 255, np.uint8))
    gray, line = color.convert('L'), color.convert('1')
    alpha = color.copy()
    alpha.putalpha(gray)
    yield from [
        (color, 'PNG'), (gray, 'PNG'), (line, 'PNG'), (alpha, 'PNG'),
        (alpha.convert('LA'), 'PNG'), (color.quantize(16), 'PNG'),
        (color, 'JPEG'), (gray, 'JPEG'), (color.convert('CMYK'), 'JPEG'),
        (color, 'TIFF'), (gray, 'TIFF'), (line, 'TIFF'), (alpha, 'TIFF'),
        (color.convert('CMYK'), 'TIFF'), (color, 'WEBP'), (alpha, 'WEBP'),
        (color, 'BMP'), (line, 'BMP'), (color, 'PPM'), (gray, 'PPM'),
    ]  # fmt: skip


def test_8_bit_files_pass_and_are_not_decoded(tmp_path, monkeypatch):
    paths = []
    for image, form in make_8_bit_images():
        path = write_pil(tmp_path / str(len(paths)), image, format=form)
        paths.append(path)
        for backend in BACKENDS:
            check(path, step=load(backend))
    bare = [p for p in paths if Image.open(p).mode not in ('RGBA', 'LA')]
    bare = [p for p in bare if Image.open(p).format != 'PPM']
    monkeypatch.delattr(stored_images, 'decode')
    check(*bare)


def palette_icon(color):
    """The alpha channel of a palette image is in its palette."""
    icon = Image.fromarray(scaled(RAMP, 255, np.uint8), 'P')
    icon.putpalette(bytes(color) * 256)
    icon.info['transparency'] = bytes(range(256))
    return icon


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'WEBP', 'palette PNG'])
@pytest.mark.parametrize('color', [(0, 0, 0), (255, 255, 255)])
def test_a_picture_in_the_alpha_channel_is_refused(tmp_path, color, form):
    icon = Image.new('RGB', (60, 40), color)
    icon.putalpha(Image.fromarray(scaled(RAMP, 255, np.uint8)))
    if form == 'palette PNG':
        icon = palette_icon(color)
    options = dict(lossless=True, exact=True) if form == 'WEBP' else {}
    path = tmp_path / 'a'
    write_pil(path, icon, format=form.split()[-1], **options)
    # libtiff multiplies colors by alpha, so that OpenCV shows the picture.
    is_shown = form == 'TIFF' and any(color)
    for backend in BACKENDS[is_shown:]:
        with pytest.raises(ValueError, match='paste them on a background'):
            check(path, step=load(backend))
    other = make_8_bit_images()
    photo = next(i for i, _ in other if i.mode == 'RGBA')
    check(path, write_pil(tmp_path / 'b.png', photo))


def test_files_that_cannot_be_checked_are_logged(tmp_path, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    unknown = tmp_path / 'a.npy'
    unknown.write_bytes(b'\x93NUMPY' + bytes(100))
    check(unknown, step=Scale(lambda v: v))
    check(tmp_path / 'missing.png')
    logger.removeHandler(caplog.handler)
    expected = 'alpha channel of 1 of 1 files of Files'
    assert caplog.text.count(expected) == 2
    assert 'missing.png' in caplog.text


def test_files_of_other_backends_are_read_through_them(tmp_path):
    """An archive is the backend of the loader, and paths are keys in it."""
    from mmengine.fileio import BaseStorageBackend, register_backend

    class Archive(BaseStorageBackend):
        def __init__(self, root):
            self.root = root

        def get(self, filepath):
            return (
                tmp_path / self.root / filepath.split('://')[1]
            ).read_bytes()

        def get_text(self, filepath):
            raise NotImplementedError

    register_backend('archive', Archive, prefixes='archive', force=True)
    (tmp_path / 'in').mkdir()
    write(tmp_path / 'in/a.png', scaled(RAMP, 4095))
    step = load(backend_args=dict(backend='archive', root='in'))
    with pytest.raises(ValueError, match='255 / 4095'):
        check('archive://a.png', step=step)


def test_each_part_of_a_wrapper_is_checked(tmp_path):
    full = write(tmp_path / 'full.png', scaled(RAMP, 65535))
    dark = write(tmp_path / 'dark.png', scaled(RAMP, 4095))
    parts = [
        Files(metainfo=dict(paths=[str(path)]), pipeline=[load()])
        for path in (full, dark)
    ]
    check_stored_values(ConcatDataset(parts[:1] * 2))
    with pytest.raises(ValueError, match='255 / 4095'):
        check_stored_values(ConcatDataset(parts, ignore_keys=['paths']))


def test_at_most_32_headers_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.jpg', scaled(COLORS, 255, np.uint8))
    opened = []

    def count(path, steps):
        opened.append(path)
        return io.BytesIO(b'\xff\xd8')

    monkeypatch.setattr(stored_images, '_open', count)
    check(*[path] * 100)
    assert len(opened) == stored_images.MAX_HEADERS


def test_pages_that_are_left_out_are_logged(tmp_path, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    page = Image.fromarray(scaled(RAMP, 255, np.uint8))
    stack = tmp_path / 'stack.tif'
    page.save(stack, save_all=True, append_images=[page] * 3)
    check(write_pil(tmp_path / 'page.tif', page))
    assert 'pages' not in caplog.text
    check(stack)
    logger.removeHandler(caplog.handler)
    assert '1 of 1 files of Files have several pages' in caplog.text


def test_values_that_are_lost_otherwise_are_logged(tmp_path, caplog):
    """A threshold or a window of a loader may be intended."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    path = write(tmp_path / 'a.png', pixels())
    check(path, step=Scale(RIGHT['scaled']))
    assert 'levels' not in caplog.text
    check(path, step=Scale(lambda v: ((v > 200) * 255).astype(np.uint8)))
    logger.removeHandler(caplog.handler)
    assert 'it uses about 1 of 2' in caplog.text


def test_bright_images_and_files_without_values(tmp_path):
    path = write(tmp_path / 'a.png', pixels())
    inverted = Scale(lambda v: (255 - (v >> 8)).astype(np.uint8))
    with pytest.raises(ValueError, match=r'\[240, 255\] .* keeps 16 of '):
        check(path, step=inverted)
    nothing = Image.fromarray(np.full((8, 8), np.nan, np.float32))
    check(write_pil(tmp_path / 'a.tif', nothing), step=Scale(np.zeros_like))
