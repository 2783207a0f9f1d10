"""List the images of a folder, and check that they can be read."""

from __future__ import annotations

import os.path as osp
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from repfusion_mm.datasets.image_folder import ImageFolderDataset

#: Largest number of images whose headers are read.
MAX_HEADERS = 10_000
#: Fewer images do not fill a batch.
MIN_IMAGES = 8


class Images(NamedTuple):
    """The images of a folder.

    Attributes:
        root: The folder, an absolute path.
        names: Paths of the images relative to it, sorted.
        side: Median of the shorter sides of the images, in pixels.
    """

    root: str
    names: List[str]
    side: int


def list_images(folder: str) -> Images:
    """List the images of a folder, and log what is left out.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ValueError: There are too few images, or some cannot be read.
    """
    root = osp.abspath(osp.expanduser(folder))
    dataset = ImageFolderDataset(data_root=root, with_label=False)
    names = [
        osp.relpath(dataset.get_data_info(i)['img_path'], root)
        for i in range(len(dataset))
    ]
    if len(names) < MIN_IMAGES:
        raise ValueError(
            f'expected {MIN_IMAGES} images or more in {folder}, got '
            f'{len(names)}; give a folder of more images'
        )
    steps = np.linspace(0, len(names) - 1, min(len(names), MAX_HEADERS))
    sizes = read_sizes(root, [names[int(i)] for i in steps])
    return Images(root, names, int(np.median([min(size) for size in sizes])))


def read_sizes(root: str, names: Sequence[str]) -> List[Tuple[int, int]]:
    """Return width and height in pixels of images, from their headers.

    Args:
        root: The folder that the names are relative to; '' for paths.
        names: The images.

    Raises:
        ValueError: Files are no images, or are empty.
    """
    sizes, broken = [], []
    for name in names:
        try:
            with Image.open(osp.join(root, name)) as image:
                sizes.append(image.size)
        except (UnidentifiedImageError, OSError):
            broken.append(name)
    if broken:
        raise ValueError(
            f'expected images that can be read, got {len(broken)} that '
            f'cannot: {", ".join(osp.join(root, i) for i in broken[:3])}'
            + ' ...' * (len(broken) > 3)
            + '; remove them'
        )
    return sizes
