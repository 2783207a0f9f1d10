"""Errors of a file, of the decoder and of the process are told apart."""

import errno
import pickle

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.fileio import LocalBackend, register_backend

from repfusion_mm.datasets import LoadImage
from repfusion_mm.datasets.transforms import loading


def write(path, suffix='.jpg'):
    pixels = np.full((8, 8, 3), 90, np.uint8)
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return dict(img_path=str(path))


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(imdecode_backend='cv3'), r"'cv3'.*no such decoder"),
        (dict(color_type='colour'), r"'colour'.*correct them"),
        (
            dict(imdecode_backend='pillow', color_type='gray'),
            'flag must be "color".*correct them',
        ),
    ],
)
def test_decoders_that_decode_nothing_are_refused(on_error, options, said):
    with pytest.raises(ValueError, match=said):
        LoadImage(on_error, **options)
    assert mmcv.image.io.imread_backend == 'cv2'


@pytest.mark.skipif(
    mmcv.image.io.TurboJPEG is not None, reason='PyTurboJPEG is installed'
)
@pytest.mark.parametrize('on_error', ['raise', 'skip'])
def test_a_decoder_that_is_not_installed_is_named(on_error):
    with pytest.raises(ValueError, match=r'PyTurboJPEG.*install that package'):
        LoadImage(on_error, imdecode_backend='turbojpeg')


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.bmp', '.tiff'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow', None])
def test_installed_decoders_read_images(tmp_path, backend, suffix):
    load = pickle.loads(pickle.dumps(LoadImage(imdecode_backend=backend)))
    image = load(write(tmp_path / 'a', suffix))['img']
    assert image.shape == (8, 8, 3)
    assert (image == 90).all()


def test_missing_and_damaged_files_get_their_own_advice(tmp_path):
    (tmp_path / 'empty.jpg').touch()
    for name, advice in (
        ('empty.jpg', 'fix or remove the file'),
        ('none.jpg', r'No such file.*correct the path'),
        ('.', r'Is a directory.*correct the path'),
    ):
        with pytest.raises(ValueError, match=advice):
            LoadImage()(dict(img_path=str(tmp_path / name)))


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.EMFILE, 'Too many open files'),
        ImportError('Please install petrel_client'),
        MemoryError(),
    ],
)
def test_errors_of_the_process_are_no_damaged_images(on_error, error):
    class Failing(LocalBackend):
        def get(self, path):
            raise error

    name = f'failing {type(error).__name__} {on_error}'  # kept by mmengine
    register_backend(name, Failing)
    load = LoadImage(on_error, backend_args=dict(backend=name))
    with pytest.raises(type(error)) as caught:
        load(dict(img_path='a.jpg'))
    assert caught.value is error


def test_many_failures_in_a_row_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, 'MAX_FAILURES', 3)
    load = LoadImage('skip')
    good, bad = write(tmp_path / '0.jpg'), dict(img_path=str(tmp_path / 'x'))
    for results in (bad, bad, good, bad, bad):
        loaded = load(dict(results))
        assert (loaded is None) == (results is bad)
    with pytest.raises(ValueError, match=r'got 3 in a row.*No such file'):
        load(dict(bad))
