"""List the images of a folder, and check that they can be read."""

from __future__ import annotations

import os.path as osp
from typing import Callable, List, NamedTuple, Sequence, Tuple, TypeVar

import numpy as np
from PIL import Image

from repfusion_mm.datasets.image_files import path_within
from repfusion_mm.datasets.image_folder import ImageFolderDataset

#: Largest number of images whose headers are read.
MAX_HEADERS = 10_000
#: Fewer images do not fill a batch.
MIN_IMAGES = 8
#: Tag of EXIF; above 4, width and height are exchanged.
ORIENTATION = 0x0112
#: Formats that OpenCV rotates by this tag; Pillow itself rotates TIFF.
ROTATED = ('JPEG', 'MPO', 'PNG')
#: What Pillow raises for a file that it cannot read.
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

T = TypeVar('T')


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
        path_within(root, dataset.get_data_info(i)['img_path'])
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
    return read_files([osp.join(root, name) for name in names], loaded_size)


def loaded_size(image: Image.Image) -> Tuple[int, int]:
    """Return width and height of an image as OpenCV loads it, rotated."""
    width, height = image.size
    rotates = image.format in ROTATED and 'exif' in image.info
    if rotates and image.getexif().get(ORIENTATION, 1) > 4:
        return height, width
    return width, height


def read_files(
    paths: Sequence[str],
    read: Callable[[Image.Image], T],
    kind: str = 'images',
) -> List[T]:
    """Return what a function reads from each of the files of images.

    Args:
        paths: The files.
        read: Reads a file that is open; its pixels are not loaded yet.
        kind: What the files are, for the error message.

    Raises:
        ValueError: Files are no images, are empty, or are truncated.
    """
    found, broken = [], []
    for path in paths:
        try:
            with Image.open(path) as image:
                found.append(read(image))
        except BROKEN as error:
            broken.append((path, error))
    if broken:
        raise ValueError(
            f'expected {kind} that can be read, got {len(broken)} that '
            f'cannot: {", ".join(path for path, _ in broken[:3])}'
            + ' ...' * (len(broken) > 3)
            + f' ({broken[0][1]}); replace or remove them'
        )
    return found
