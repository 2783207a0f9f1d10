"""Read a folder of label maps."""

from __future__ import annotations

import os.path as osp
from typing import List, NamedTuple, Set, Tuple

import numpy as np
from PIL import Image

from repfusion_mm.analysis.probe.tasks.base import MIN_IMAGES
from repfusion_mm.datasets.mask_folder import MaskFolderDataset
from repfusion_mm.datasets.transforms.boxes_to_mask import IGNORED
from repfusion_mm.own_images.images import Images, read_files, read_sizes
from repfusion_mm.own_images.labels.base import Labels, find_path

#: The pixels of at most so many label maps are read, evenly spread over the
#: list: 2,000 of 480 x 360 pixels take 5 seconds.
MAX_MASKS = 2000
#: Pillow's modes of one integer for each pixel, and ``'I;16'`` and the like.
MODES = ('1', 'L', 'P', 'I')
#: Formats that change pixels; lossy WebP has three channels.
LOSSY = ('JPEG', 'MPO', 'JPEG2000')


class Header(NamedTuple):
    """What is known of a label map without its pixels."""

    size: Tuple[int, int]
    mode: str
    is_lossy: bool


def read_masks(images: Images, folder: str) -> Labels:
    """Read a folder of label maps.

    Raises:
        ValueError: The folder is among the images; a label map has another
            size than its image, several channels, or values that are no
            classes; there is one class, or too few label maps.
    """
    folder = find_path('--masks', folder)
    root = osp.realpath(images.root)
    if osp.commonpath([osp.realpath(folder), root]) == root:
        raise ValueError(
            f'expected --masks outside of the folder of the images, got '
            f'{folder}, whose label maps would be taken for images; give the '
            'folder that has only images'
        )
    dataset = MaskFolderDataset(masks=folder, data_root=images.root)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    paths = [info['seg_map_path'] for info in infos]
    sizes = read_sizes('', [info['img_path'] for info in infos])
    headers = read_files(paths, read_header, 'label maps')
    for path, header, size in zip(paths, headers, sizes):
        check_header(path, header, size)
    steps = np.linspace(0, len(paths) - 1, min(len(paths), MAX_MASKS))
    classes = read_classes([paths[int(i)] for i in steps])
    return Labels(
        'masks', folder,
        text=f'{len(paths)} label maps, of classes up to {max(classes)}',
    )  # fmt: skip


def read_header(image: Image.Image) -> Header:
    """Return the header of a label map."""
    is_lossy = image.format in LOSSY or image.info.get('compression') == 'jpeg'
    return Header(image.size, image.mode, is_lossy)


def check_header(path: str, header: Header, size: Tuple[int, int]) -> None:
    """Refuse a label map that is lossy, has colors, or another size.

    Args:
        path: The label map.
        header: Its header.
        size: Width and height of its image.
    """
    if header.is_lossy:
        raise ValueError(
            f'expected label maps without lossy compression, got {path}, '
            'whose compression (JPEG) changes classes at their borders; '
            'export them again, as PNG'
        )
    if header.mode not in MODES and not header.mode.startswith('I;16'):
        raise ValueError(
            'expected label maps of one channel, whose pixels are integers, '
            f'got {path} of mode {header.mode}; store the number of the class '
            'of each pixel'
        )
    if header.size != size:
        raise ValueError(
            'expected label maps of the size of their images, got '
            f'{path} of {header.size[0]} x {header.size[1]} for an image of '
            f'{size[0]} x {size[1]}; resize or rotate one of them'
        )


def read_classes(paths: List[str]) -> Set[int]:
    """Return the classes of the pixels of label maps.

    Raises:
        ValueError: A value does not fit; there is one class, or too few label
            maps have pixels that count.
    """
    values = read_files(paths, read_values, 'label maps')
    for path, found in zip(paths, values):
        wrong = sorted(i for i in found if not 0 <= i <= IGNORED)
        if wrong:
            raise ValueError(
                f'expected pixels of label maps from 0 to {IGNORED - 1}, or '
                f'{IGNORED} to ignore them, got {wrong[-1]} in {path}; number '
                'the classes from 0'
            )
    counted = [found - {IGNORED} for found in values if found - {IGNORED}]
    classes = set().union(*counted)
    if len(classes) < 2:
        raise ValueError(
            f'expected two classes or more in label maps, got '
            f'{sorted(classes)} in {len(paths)} of them ({IGNORED} is '
            f'ignored); store classes as 0, 1, ..., not as 0 and {IGNORED}'
        )
    if len(counted) < MIN_IMAGES:
        raise ValueError(
            f'expected {MIN_IMAGES} label maps or more with pixels that '
            f'count, got {len(counted)} ({IGNORED} is ignored); label more '
            'images'
        )
    return classes


def read_values(image: Image.Image) -> Set[int]:
    """Return the values of a label map; only its limits if some do not fit."""
    pixels = np.asarray(image)
    limits = {int(pixels.min()), int(pixels.max())}
    if min(limits) < 0 or max(limits) > IGNORED:
        return limits
    return {*np.flatnonzero(np.bincount(pixels.ravel())).tolist()}
