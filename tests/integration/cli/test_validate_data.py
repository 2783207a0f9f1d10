"""Files of a dataset are checked before it is built."""

import json

import pytest
from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CustomDataset

from repfusion_mm.cli.validate_data import check_dataset


def config(folder, **options):
    return dict(
        type='mmpretrain.CustomDataset', data_root=str(folder), **options
    )


def write_list(folder, content):
    (folder / 'list.txt').write_bytes(content)
    return config(folder, ann_file='list.txt')


def test_datasets_inside_others_are_checked(tmp_path):
    missing = config(tmp_path / 'nowhere')
    for wrapped in (
        dict(type='ConcatDataset', datasets=[config(tmp_path), missing]),
        dict(type='RepeatDataset', dataset=missing),
    ):
        with pytest.raises(FileNotFoundError, match=r"data_root='.*nowhere"):
            check_dataset(wrapped)


def test_a_missing_list_is_named(tmp_path):
    other = dict(type='mmseg.BaseSegDataset', data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r'/train\.txt.* \(data_root'):
        check_dataset(dict(other, ann_file='train.txt'))


def test_data_that_may_be_downloaded_or_remote_is_not_checked(tmp_path):
    check_dataset(dict(type='mmpretrain.CIFAR10', data_root='nowhere'))
    check_dataset(config('s3://bucket', ann_file='list.txt'))
    remote = dict(backend='petrel')
    check_dataset(config('nowhere', ann_file='a.txt', backend_args=remote))


@pytest.mark.parametrize(
    'options',
    [
        dict(data_root='http://host/a'),
        dict(data_prefix='file:///a'),
        dict(data_prefix=dict(img_path='https://host/a')),
    ],
)
def test_addresses_that_cannot_be_listed_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match=r'mmengine can list, got .*copy'):
        check_dataset(dict(config(tmp_path), **options))


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'an empty file; list'),
        (b'a.jpg \xd0\xff', 'not text .*UTF-8'),
        (b'a.jpg 1\na.jpg', "'a.jpg' in line 2"),
        (b'a.jpg one\n', 'labels are integers'),
        (b'a b.jpg 1.5\n', 'labels are integers'),
    ],
)
def test_a_wrong_list_is_named(tmp_path, content, said):
    with pytest.raises(ValueError, match=rf'list\.txt.*{said}'):
        check_dataset(write_list(tmp_path, content))


@pytest.mark.parametrize(
    ('content', 'with_label', 'said'),
    [
        (b'\xef\xbb\xbfa.jpg 1\n', True, 'byte order mark'),
        (b'\xef\xbb\xbfa.jpg\n', False, 'byte order mark'),
        (b'a.jpg 1\n\nb.jpg 2\n', True, 'a blank line, line 2'),
        (b'a.jpg\n \n', False, 'a blank line, line 2'),
        (b'a.jpg\t1', True, 'in line 1, with a tab'),
    ],
)
def test_lists_that_mmpretrain_would_misread_are_refused(
    tmp_path, content, with_label, said
):
    part = dict(write_list(tmp_path, content), with_label=with_label)
    with pytest.raises(ValueError, match=rf'{said}; .*ImageFolderDataset'):
        check_dataset(part)
    check_dataset(dict(part, type='repfusion_mm.ImageFolderDataset'))


def test_data_of_another_backend_is_not_checked(tmp_path):
    remote = dict(type='LoadImage', backend_args=dict(backend='lmdb'))
    check_dataset(config('nowhere', ann_file='a.txt', pipeline=[remote]))
    local = dict(type='LoadImage', backend_args=dict(backend='local'))
    with pytest.raises(FileNotFoundError):
        check_dataset(config('nowhere', ann_file='a.txt', pipeline=[local]))


def test_good_lists_are_accepted(tmp_path):
    check_dataset(write_list(tmp_path, b'a b.jpg 1\nc.jpg -3\n'))
    check_dataset(dict(write_list(tmp_path, b'a.jpg\n'), with_label=False))


@pytest.mark.parametrize(
    ('keypoints', 'got'),
    [
        ([1.5, 2] * 17, 34),
        ([[1, 2], [3, -4e1]], 2),
        ([1, 2, 2] * 17, None),
        ([[1, 2, 2], [0, 0, 0]], None),
    ],
)
def test_keypoints_without_visibility_are_refused(tmp_path, keypoints, got):
    content = dict(
        categories=[dict(id=1, keypoints=['nose', 'eye'])],
        annotations=[dict(keypoints=[]), dict(keypoints=keypoints)],
    )
    (tmp_path / 'points.json').write_text(json.dumps(content))
    cfg = dict(type='CocoDataset', data_root=str(tmp_path))
    if got is None:
        check_dataset(dict(cfg, ann_file='points.json'), 'mmpose')
        return
    message = rf'x, y, v .*got {got} in .*points\.json; add the visibility'
    with pytest.raises(ValueError, match=message):
        check_dataset(dict(cfg, ann_file='points.json'), 'mmpose')
    # Another dataset may read another format.
    check_dataset(dict(cfg, ann_file='points.json', type='Mine'))


class MyCustomDataset(BaseDataset):
    """A dataset with its own format of lists."""


class MyList(CustomDataset):
    """A dataset with the lists of mmpretrain."""


def test_datasets_are_known_by_their_class_not_by_their_name(tmp_path):
    part = write_list(tmp_path, b'{"images": []}')
    check_dataset(dict(part, type=MyCustomDataset))
    check_dataset(dict(part, type='CustomDataset'), 'mmseg')
    for scope, kind in (('mmpretrain', 'CustomDataset'), (None, MyList)):
        with pytest.raises(ValueError, match='expected lines "path label"'):
            check_dataset(dict(part, type=kind), scope)
    with pytest.raises(ValueError, match='expected lines "path label"'):
        check_dataset(
            dict(part, type='CustomDataset', _scope_='mmpretrain'), 'mmseg'
        )
