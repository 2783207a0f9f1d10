"""Compare what loaders give with what the files of a dataset store."""

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
from repfusion_mm.datasets.wrappers import iter_pipelines
from repfusion_mm.utils.seeding import seeded

#: Files of each dataset whose first bytes are read, and how many of those
#: with more than 8 bits, or with an alpha channel, are decoded.
NUM_HEADERS, NUM_DECODED = 32, 8
#: Values of each decoded file that are compared.
NUM_VALUES = 200_000
#: Images whose brightest values are below this are dark; they must have this
#: share of the levels that files have if they are scaled to 8 bits.
MIN_BRIGHTEST, MIN_KEPT = 85, 0.75
#: Largest share of values that a loader may cut off at 255.
MAX_CLIPPED = 0.05
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
#: JPEG, BMP, GIF and WebP, which are stored with 8 bits.
EIGHT_BITS = (b'\xff\xd8', b'BM', b'GIF8', b'RIFF')


def check_stored_values(dataset: Any) -> None:
    """Refuse loaders that lose most of what the files store.

    OpenCV keeps the upper 8 of 16 bits, Pillow cuts off values above 255, and
    both drop an alpha channel. Any loader is judged by what it gives.

    Args:
        dataset: The training dataset, or one that wraps others.

    Raises:
        ValueError: Images are loaded almost black or white, although their
            files store more, or are constant except for the alpha channel.
    """
    for part, pipelines in iter_pipelines(dataset):
        name = type(part).__name__
        steps = [s for p in pipelines for s in getattr(p, 'transforms', [p])]
        paths, stored, loaded = [], [], []
        for path, values, image in iter_pairs(part, steps):
            paths.append(path)
            stored.append(values)
            loaded.append(image)
        check_alpha(stored, loaded, name)
        for dtype in {array.dtype for array in stored} - {np.dtype('uint8')}:
            chosen = [i for i, s in enumerate(stored) if s.dtype == dtype]
            check_range(
                np.concatenate([sample(_colors(stored[i])) for i in chosen]),
                np.concatenate([sample(loaded[i]) for i in chosen]),
                f'{name} ({paths[chosen[0]]})',
            )


def iter_pairs(
    dataset: Any, steps: Sequence[Callable]
) -> Iterator[Tuple[str, np.ndarray, np.ndarray]]:
    """Yield paths of more than 8 bits, what they store, and what is loaded.

    A warning is logged if files cannot be read or decoded.
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
            f'{type(dataset).__name__} not checked ({info["img_path"]}: '
            f'{reason[:200]})',
            logger='current',
            level=logging.WARNING,
        )


def read_header(file: Any) -> Tuple[bool, int]:
    """Return whether an image may have more than 8 bits, or alpha.

    Formats that are not known may have.

    Returns:
        The answer, and the number of pages of a TIFF file.
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
    """Return the values that an image file stores."""
    values = cv2.imdecode(
        np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED
    )
    if values is None:
        with Image.open(io.BytesIO(content)) as image:
            values = np.asarray(image)
    return values


def check_alpha(
    stored: List[np.ndarray], loaded: List[np.ndarray], name: str
) -> None:
    """Refuse images whose picture is in the alpha channel that is dropped."""
    pairs = [(s, i) for s, i in zip(stored, loaded) if s.shape[2:] == (4,)]
    empty = sum(np.ptp(i) == 0 and np.ptp(s[..., 3]) > 0 for s, i in pairs)
    if empty > len(pairs) / 2:
        raise ValueError(
            f'expected images with a picture from {name}, got one color in '
            f'{empty} of {len(pairs)} files, whose picture is in the alpha '
            'channel, which the loader drops; paste them on a background'
        )


def check_range(stored: np.ndarray, loaded: np.ndarray, name: str) -> None:
    """Refuse a loader that makes images almost black, or cuts off values.

    Args:
        stored: Values that files store, of more than 8 bits.
        loaded: Values that the loader gives, in [0, 255].
        name: What the images belong to, for the error message.

    Raises:
        ValueError: Most levels are lost in dark images, or more than 5 % of
            the values are cut off at 255.
    """
    low = min(0.0, float(stored.min()))
    # A few outliers, as of a burned-in marker, do not count.
    high, brightest = np.percentile(stored, 99.9), np.percentile(loaded, 99.9)
    scaled = (stored - low) * (255 / max(high - low, 1e-12))
    levels = len(np.unique(np.clip(scaled, 0, 255).astype(np.uint8)))
    kept = len(np.unique(loaded))
    clipped = float((stored > 255).mean())
    percents = np.arange(101)
    is_clipped = np.allclose(
        np.percentile(np.clip(stored, 0, 255), percents),
        np.percentile(loaded, percents),
        atol=1,
    )
    cause = ''
    if is_clipped and clipped > MAX_CLIPPED:
        cause = f'it cuts off {clipped:.0%} of them at 255'
    elif brightest < MIN_BRIGHTEST and kept < MIN_KEPT * levels:
        cause = f'it keeps {kept} of {levels} levels'
    if cause:
        advice = 'replace the loader by a transform that scales them'
        if stored.dtype == np.uint16 and high / 256 > MIN_BRIGHTEST:
            advice = 'set imdecode_backend="cv2"'
        limit = 2 ** int(np.ceil(np.log2(high + 1))) - 1
        raise ValueError(
            f'expected images in [0, 255] from the loader of {name}, got '
            f'values up to {brightest:.5g} from {stored.dtype} files with '
            f'values up to {high:.5g}: {cause}; convert the files to 8 bits '
            f'(value * 255 / {limit}), or {advice}'
        )


def load(info: dict, steps: Sequence[Callable], *keys: str) -> dict:
    """Return an info after the first transforms, which add ``keys``.

    No random number generator is advanced.
    """
    info = copy.deepcopy(info)
    with seeded(0):
        for step in steps:
            if not all(key in info for key in keys):
                info = step(info)
    return info


def sample(values: np.ndarray) -> np.ndarray:
    """Return finite values of an array, evenly spread."""
    flat = values.reshape(-1)
    flat = flat[:: -(-len(flat) // NUM_VALUES)]
    return flat[np.isfinite(flat)]


def _colors(values: np.ndarray) -> np.ndarray:
    """Return an image without its alpha channel."""
    return values[..., :3] if values.shape[2:] == (4,) else values


def spread(length: int, number: int) -> List[int]:
    """Return at most so many indices, evenly spread."""
    number = min(length, number)
    return [position * length // number for position in range(number)]


def _open(path: str, steps: Sequence[Callable]) -> Any:
    """Open a file with the file backend of the first transform with one."""
    found = (
        getattr(step, key, None)
        for step in steps
        for key in ('backend_args', 'file_client_args')
    )
    args = next(filter(None, found), None)
    if is_local(path, args):
        return open(path, 'rb')
    return io.BytesIO(get_file_backend(path, backend_args=args).get(path))
