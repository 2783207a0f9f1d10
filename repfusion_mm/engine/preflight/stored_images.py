"""Load images as a dataset does, and decode their files without loss."""

from __future__ import annotations

import copy
import io
import logging
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import cv2
import numpy as np
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from repfusion_mm.datasets.image_files import is_local
from repfusion_mm.utils.seeding import seeded

#: Number of files of each dataset whose first bytes are read.
NUM_HEADERS = 32
#: Number of those with more than 8 bits or an alpha channel that are decoded.
NUM_DECODED = 8
#: First bytes of TIFF files.
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
#: First bytes of JPEG, BMP, GIF and WebP files, which have 8 bits.
EIGHT_BITS = (b'\xff\xd8', b'BM', b'GIF8', b'RIFF')


def iter_pairs(
    dataset: Any, steps: Sequence[Callable]
) -> Iterator[Tuple[str, np.ndarray, np.ndarray]]:
    """Yield files with more than 8 bits or an alpha channel.

    A warning is logged if files cannot be read or decoded, or have several
    pages.

    Args:
        dataset: A dataset with infos.
        steps: The transforms of its pipeline, of which the first load images.

    Yields:
        The path, the values in the file, and the loaded image.
    """
    infos = []
    for index in spread(len(dataset), NUM_HEADERS):
        info = dataset.get_data_info(index)
        if 'img' not in info and isinstance(info.get('img_path'), str):
            infos.append(info)
    chosen, stacks, errors = [], [], []
    for info in infos:
        try:
            with _open(info['img_path'], steps) as file:
                may_exceed, num_pages = read_header(file)
            chosen += [info] if may_exceed else []
            stacks += [info] if num_pages > 1 else []
        except Exception as error:  # of any backend
            errors.append((info, error))
    for position in spread(len(chosen), NUM_DECODED):
        info = chosen[position]
        path = info['img_path']
        try:
            with _open(path, steps) as file:
                values = decode(file.read())
            if values.dtype == np.uint8 and values.shape[2:] != (4,):
                continue
            yield path, values, np.asarray(load(info, steps, 'img')['img'])
        except Exception as error:  # of any loader
            errors.append((info, error))
    if stacks:
        print_log(
            f'{len(stacks)} of {len(infos)} files of {type(dataset).__name__} '
            f'have several pages ({stacks[0]["img_path"]}), of which OpenCV '
            'and Pillow read the first',
            logger='current',
            level=logging.WARNING,
        )
    if errors:
        info, first = errors[0]
        reason = ' '.join(f'{type(first).__name__}: {first}'.split())
        print_log(
            f'bits of {len(errors)} of {len(infos)} files of '
            f'{type(dataset).__name__} are not checked ({info["img_path"]}: '
            f'{reason[:200]})',
            logger='current',
            level=logging.WARNING,
        )


def read_header(file: Any) -> Tuple[bool, int]:
    """Read the header of an image file.

    Returns:
        Whether the image may have more than 8 bits or an alpha channel (True
        for unknown formats), and the number of pages (1 except in TIFF files).
    """
    head = file.read(26)
    if head.startswith(b'\x89PNG'):
        return head[24] > 8 or head[25] in (4, 6), 1
    if head.startswith(TIFF):
        file.seek(0)
        try:
            with Image.open(file) as image:
                bits = image.tag_v2.get(258, (1,))
                return max(bits) > 8, image.n_frames
        except (UnidentifiedImageError, Image.DecompressionBombError):
            return True, 1
    return not head.startswith(EIGHT_BITS), 1


def decode(content: bytes) -> np.ndarray:
    """Return the values in an image file, of its own type and channels."""
    values = cv2.imdecode(
        np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED
    )
    if values is None:
        with Image.open(io.BytesIO(content)) as image:
            values = np.asarray(image)
    return values


def load(info: dict, steps: Sequence[Callable], *keys: str) -> dict:
    """Return an info after the transforms that are needed to add ``keys``.

    The states of random number generators do not change.
    """
    info = copy.deepcopy(info)
    with seeded(0):
        for step in steps:
            if not all(key in info for key in keys):
                info = step(info)
    return info


def spread(length: int, number: int) -> List[int]:
    """Return at most ``number`` indices below ``length``, evenly spaced."""
    number = min(length, number)
    return [position * length // number for position in range(number)]


def _open(path: str, steps: Sequence[Callable]) -> Any:
    """Open a file with the first file backend that a transform sets."""
    found = (
        getattr(step, key, None)
        for step in steps
        for key in ('backend_args', 'file_client_args')
    )
    args = next(filter(None, found), None)
    if is_local(path, args):
        return open(path, 'rb')
    return io.BytesIO(get_file_backend(path, backend_args=args).get(path))
