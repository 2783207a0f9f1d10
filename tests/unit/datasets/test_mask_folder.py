import cv2
import numpy as np
import pytest

from repfusion_mm.datasets import MaskFolderDataset


@pytest.fixture
def folder(tmp_path):
    for name in ('a/1.jpg', 'a/2.png', '3.jpeg'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((6, 4, 3), np.uint8))
    (tmp_path / 'masks/a').mkdir(parents=True)
    return tmp_path


def write(folder, *names):
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / 'masks' / name), np.full((6, 4), i, np.uint8))


def read(folder, **settings):
    settings = dict(data_root=str(folder / 'images'), **settings)
    return MaskFolderDataset(masks='../masks', **settings)


def test_images_are_paired_by_their_names(folder):
    write(folder, 'a/1.png', '3.png')
    dataset = read(folder)
    pairs = {
        info['img_path'].split('images/')[1]: info['seg_map_path']
        for info in map(dataset.get_data_info, range(len(dataset)))
    }
    assert {k: v.split('masks/')[1] for k, v in pairs.items()} == {
        'a/1.jpg': 'a/1.png',
        '3.jpeg': '3.png',
    }


def test_mmseg_reads_them(folder):
    write(folder, 'a/1.png', '3.png')
    dataset = read(
        folder,
        pipeline=[
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmseg.LoadAnnotations'),
            dict(type='mmseg.PackSegInputs'),
        ],
    )
    found = {
        dataset[i]['data_samples'].gt_sem_seg.data.unique().item()
        for i in range(2)
    }
    assert found == {0, 1}


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['a/1.png', 'b.png'], '1 of 2 without an image: b.png'),
        ([], 'got none; correct masks'),
        (['3.png', '3.bmp'], "got '3.bmp' and '3.png'"),
    ],
)
def test_masks_that_do_not_fit_are_refused(folder, names, message):
    write(folder, *names)
    with pytest.raises(ValueError, match=message):
        read(folder)


def test_a_missing_folder_is_named(folder):
    with pytest.raises(FileNotFoundError, match='masks2'):
        MaskFolderDataset(masks='../masks2', data_root=str(folder / 'images'))


@pytest.mark.parametrize('masks', ['masks', '.'])
def test_label_maps_among_the_images_are_refused(folder, masks):
    """They would be distilled as images."""
    root = folder / 'images'
    (folder / 'masks').rename(root / 'masks')
    with pytest.raises(ValueError, match=r"outside .* masks='\.\./masks'"):
        MaskFolderDataset(masks=masks, data_root=str(root))
