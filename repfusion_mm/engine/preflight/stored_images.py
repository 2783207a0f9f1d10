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

#: Largest number of files of each dataset whose headers are read.
MAX_HEADERS = 32
#: Largest number of files with more than 8 bits or an alpha channel that are
#: decoded.
MAX_DECODED = 8
#: First bytes of JPEG files, which have 8 bits and no alpha channel.
JPEG = b'\xff\xd8'
#: Other formats whose headers, as Pillow reads them, tell both.
FORMATS = ('BMP', 'GIF', 'PNG', 'TIFF', 'WEBP')


def iter_stored_and_loaded(
    dataset: Any, steps: Sequence[Callable]
) -> Iterator[Tuple[str, np.ndarray, np.ndarray]]:
    """Yield files with more than 8 bits or an alpha channel.

    A warning is logged if files cannot be read or decoded, or have several
    pages.

    Args:
        dataset: A dataset with infos.
        steps: The transforms of its pipeline, of which the first load images.

    Yields:
        The path; the values in the file, as of :func:`decode`; and the image
        that the pipeline loads, H x W x C.
    """
    infos = []
    for index in spread(len(dataset), MAX_HEADERS):
        info = dataset.get_data_info(index)
        if 'img' not in info and isinstance(info.get('img_path'), str):
            infos.append(info)
    chosen, stacks, errors = [], [], []
    for info in infos:
        try:
            with _open(info['img_path'], steps) as file:
                may_exceed, num_pages = read_header(file)
            if may_exceed:
                chosen.append(info)
            if num_pages > 1:
                stacks.append(info)
        except Exception as error:  # of any backend
            errors.append((info, error))
    for position in spread(len(chosen), MAX_DECODED):
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
            'cannot check the bit depth and alpha channel of '
            f'{len(errors)} of {len(infos)} files of '
            f'{type(dataset).__name__} ({info["img_path"]}: {reason[:200]})',
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
    if head.startswith(JPEG):
        return False, 1
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as image:
            bits, num_pages = 8, 1
            if image.format == 'PNG':  # of which Pillow's mode has 8 bits
                bits = head[24]
            elif image.format == 'TIFF':
                bits = max(image.tag_v2.get(258, (1,)))
                num_pages = image.n_frames
            has_alpha = image.mode[-1] in 'Aa' or 'transparency' in image.info
            return bits > 8 or has_alpha, num_pages
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return True, 1


def decode(content: bytes) -> np.ndarray:
    """Decode an image file without reducing its bit depth.

    Returns:
        An H x W or H x W x C array. The channels are BGR or BGRA, or as stored
        if only Pillow reads the file.

    Raises:
        PIL.UnidentifiedImageError: Neither OpenCV nor Pillow reads the file.
    """
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
