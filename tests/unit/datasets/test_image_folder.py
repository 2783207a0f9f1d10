"""A folder of images: what is found, what is left out and said."""

import os

import cv2
import numpy as np
import pytest

from repfusion_mm.datasets import LoadImage
from repfusion_mm.registry import DATASETS

READ = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff')
FORMATS = {'.jfif': '.jpg', '.jpe': '.jpg', '': '.png', '.dat': '.webp'}


def write(path, encoder=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 8) if path.suffix.lower() == '.pgm' else (8, 8, 3)
    encoder = encoder or path.suffix
    _, content = cv2.imencode(encoder, np.full(shape, 9, np.uint8))
    path.write_bytes(content.tobytes())


def build(root, **options):
    config = dict(type='repfusion_mm.ImageFolderDataset', data_root=str(root))
    return DATASETS.build(dict(config, **options))


def names(dataset):
    root = dataset.data_root
    return [
        os.path.relpath(dataset[i]['img_path'], root)
        for i in range(len(dataset))
    ]


def test_all_images_that_opencv_reads_are_used(tmp_path, log):
    for suffix in (*READ, '.JPG', '.webp'):
        write(tmp_path / f'a{suffix}')
    for suffix, encoder in FORMATS.items():
        write(tmp_path / f'b{suffix}', encoder)
    for other in ('labels.txt', 'b.gif', 'c.csv', 'Thumbs.db'):
        (tmp_path / other).write_text('0.jpg 1')
    dataset = build(tmp_path, with_label=False, pipeline=[LoadImage()])
    assert len(dataset) == len(READ) + 2 + len(FORMATS)
    assert all(item['img'].shape == (8, 8, 3) for item in dataset)
    assert '14 images: 2 .jpg, ' in log.text
    left_out = log.text.split('left out: ')[1]
    for suffix in ('1 .txt', '1 .gif', '1 .csv', '1 .db'):
        assert suffix in left_out
    levels = {r.levelname for r in log.records if 'left out' in r.message}
    assert levels == {'WARNING'}  # .gif is an image


def test_an_extension_of_damaged_files_is_not_left_out(tmp_path):
    (tmp_path / 'a.jpg').touch()
    assert names(build(tmp_path, with_label=False)) == ['a.jpg']


def test_given_extensions_are_the_only_ones(tmp_path, log):
    for name in ('a.jpg', 'b.png', 'c.png'):
        write(tmp_path / name)
    dataset = build(tmp_path, with_label=False, extensions=['.PNG'])
    assert names(dataset) == ['b.png', 'c.png']
    assert 'left out: 1 .jpg' in log.text


def test_hidden_and_system_folders_are_no_classes(tmp_path, log):
    for name in (
        'ant/0.jpg', 'bee/deep/1.jpg', 'cat/2.jpg', '.git/3.jpg',
        '.ipynb_checkpoints/0.jpg', '__MACOSX/0.jpg', 'bee/@eaDir/1.jpg',
        'cat/._2.jpg', '3.jpg',
    ):  # fmt: skip
        write(tmp_path / name)
    dataset = build(tmp_path)
    assert dataset.metainfo['classes'] == ('ant', 'bee', 'cat')
    assert names(dataset) == ['ant/0.jpg', 'bee/deep/1.jpg', 'cat/2.jpg']
    assert [item['gt_label'] for item in dataset] == [0, 1, 2]
    assert 'left out: 1 .jpg, 5 hidden (' in log.text


def test_folders_without_images_keep_their_number(tmp_path, log):
    """So that training and validation number their classes alike."""
    (tmp_path / 'ant').mkdir()
    write(tmp_path / 'bee/0.jpg')
    dataset = build(tmp_path)
    assert dataset.metainfo['classes'] == ('ant', 'bee')
    assert dataset[0]['gt_label'] == 1
    (warning,) = (r for r in log.records if r.levelname == 'WARNING')
    assert '1 of 2 class folders have no images: ant' in warning.message


def test_links_are_followed_once(tmp_path, log):
    write(tmp_path / 'away/1.jpg')
    write(tmp_path / 'root/0.jpg')
    root = tmp_path / 'root'
    (root / 'linked').symlink_to(tmp_path / 'away')
    (root / 'circle').symlink_to(root)
    (root / '2.jpg').symlink_to(tmp_path / 'nowhere.jpg')
    dataset = build(root, with_label=False)
    assert names(dataset) == ['0.jpg', 'linked/1.jpg']
    assert '2 broken links (' in log.text


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    write(tmp_path / 'mine/0.jpg')
    dataset = build('~/mine', with_label=False)
    assert dataset[0]['img_path'] == str(tmp_path / 'mine/0.jpg')


@pytest.mark.parametrize(
    ('content', 'infos'),
    [
        (b'\xef\xbb\xbf0.jpg 1\r\na b.jpg\t2\r\n\r\n', [1, 2]),
        (b'\n0.jpg   1\n  \na b.jpg 2\n\n', [1, 2]),
        (b'\xef\xbb\xbf0.jpg\r\n\r\na b.jpg\n', None),
    ],
)
def test_lists_are_read_in_any_editor_s_format(tmp_path, content, infos):
    (tmp_path / 'list.txt').write_bytes(content)
    labeled = infos is not None
    dataset = build(tmp_path, ann_file='list.txt', with_label=labeled)
    assert names(dataset) == ['0.jpg', 'a b.jpg']
    if labeled:
        assert [item['gt_label'] for item in dataset] == infos


def test_absolute_paths_in_lists_are_kept(tmp_path):
    path = tmp_path / 'elsewhere/0.jpg'
    (tmp_path / 'list.txt').write_text(f'{path} 0\n')
    dataset = build(tmp_path / '.', ann_file='list.txt', data_prefix='images')
    assert dataset[0]['img_path'] == str(path)


def test_repeated_lines_are_logged_unless_labels_differ(tmp_path, log):
    path = tmp_path / 'list.txt'
    path.write_text('0.jpg 1\n1.jpg 0\n./0.jpg 1\n')
    assert len(build(tmp_path, ann_file='list.txt')) == 3
    assert '3 lines, 1 of them repeat an image' in log.text
    path.write_text('0.jpg 1\n1.jpg 0\n./0.jpg 2\n')
    with pytest.raises(ValueError, match=r"got 1 and 2 for '\./0\.jpg'"):
        build(tmp_path, ann_file='list.txt')


@pytest.mark.parametrize(
    ('files', 'options', 'said'),
    [
        ([], {}, 'got 0 files'),
        (['0.jpg'], {}, 'got 1 images, but none in a subfolder; set with_l'),
        (['a.txt'], dict(with_label=False), 'none of them with one of'),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path, files, options, said):
    for name in files:
        write(tmp_path / name, '.jpg') if '.jpg' in name else (
            tmp_path / name
        ).touch()
    with pytest.raises(FileNotFoundError, match=said):
        build(tmp_path, **options)


def test_other_folders_than_classes_are_refused(tmp_path):
    write(tmp_path / 'ant/0.jpg')
    with pytest.raises(ValueError, match=r"expected 2 sub.* got 1: \['ant'\]"):
        build(tmp_path, metainfo=dict(classes=('ant', 'bee')))


@pytest.mark.parametrize('as_metainfo', [True, False])
@pytest.mark.parametrize(
    ('classes', 'labels'),
    [
        (('ant', 'bee', 'cat'), [0, 1, 2]),
        (['cat', 'ant', 'bee'], [1, 2, 0]),
        (('Ant', 'Bee', 'Cat'), [0, 1, 2]),  # names to display
        (('ant', 'bee', 'tiger'), [0, 1, 2]),
        (('bee', 'ant', 'tiger'), None),
        (('ant', 'cat', 'tiger'), None),
    ],
)
def test_folders_are_numbered_as_their_classes(
    tmp_path, classes, labels, as_metainfo
):
    for name in ('ant', 'bee', 'cat'):
        write(tmp_path / name / '0.jpg')
    options = dict(classes=classes)
    if as_metainfo:
        options = dict(metainfo=options)
    if labels is None:
        with pytest.raises(ValueError, match=r'of none, got .*, whose index'):
            build(tmp_path, **options)
        return
    dataset = build(tmp_path, **options)
    assert [item['gt_label'] for item in dataset] == labels
    assert [*dataset.metainfo['classes']] == [*classes]


@pytest.mark.parametrize('address', ['http://host/a', 'file:///a', 'x://a'])
@pytest.mark.parametrize('option', ['data_root', 'data_prefix'])
@pytest.mark.parametrize('ann_file', ['', '/list.txt'])
def test_addresses_that_cannot_be_listed_are_refused(
    address, option, ann_file
):
    options = dict(dict(data_root=''), **{option: address}, ann_file=ann_file)
    with pytest.raises(ValueError, match=f"list, got '{address}.*copy the"):
        build(options.pop('data_root'), **options)


def test_remote_folders_are_listed_by_their_backend(tmp_path):
    """A folder behind a prefix of mmengine's, here one in memory."""
    from mmengine.fileio import BaseStorageBackend, register_backend

    class Memory(BaseStorageBackend):
        def get(self, path):
            return b''

        def get_text(self, path, encoding='utf-8'):
            return ''

        def join_path(self, path, *more):
            return '/'.join((path.rstrip('/'), *more))

        def list_dir_or_file(self, path, list_dir=True, **kwargs):
            return iter(['bee/1.JPG', 'ant/0.webp', '.git/x.jpg', 'a.txt'])

    register_backend('memory', Memory, force=True, prefixes='mem')
    dataset = build('mem://bucket')
    assert dataset[0]['img_path'] == 'mem://bucket/ant/0.webp'
    assert [item['gt_label'] for item in dataset] == [0, 1]


def test_a_list_with_labels_is_not_read_as_paths(tmp_path):
    write(tmp_path / 'a b.jpg')
    (tmp_path / 'list.txt').write_text('a b.jpg 1\n')
    with pytest.raises(
        ValueError, match=r"'a b.jpg 1', which ends in a label; set"
    ):
        build(tmp_path, ann_file='list.txt', with_label=False)
    (tmp_path / 'list.txt').write_text('a b.jpg\n')
    build(tmp_path, ann_file='list.txt', with_label=False)
