"""Compare loaded images with the values in the files of a dataset."""

from __future__ import annotations

import logging
import math
from typing import Any, List

import numpy as np
from mmengine.logging import print_log

from repfusion_mm.datasets.wrappers import iter_pipelines
from repfusion_mm.engine.preflight.stored_images import iter_stored_and_loaded

#: Number of values of each decoded file that are compared.
NUM_VALUES = 200_000
#: Images with no loaded value of ``DARK`` or more (as of 14 bits, of which
#: the upper 8 of 16 bits are kept), or none up to ``BRIGHT``, must keep this
#: share of the levels that their files have if they are scaled to 8 bits.
DARK, BRIGHT, MIN_KEPT = 65, 190, 0.75
#: Largest share of values that a loader may clip at 255.
MAX_CLIPPED = 0.05
#: Smallest share of the effective levels (``count_effective``) that is kept
#: without a warning.
MIN_EFFECTIVE = 0.25


def check_stored_values(dataset: Any) -> None:
    """Refuse loaders that lose most of the information in the files.

    OpenCV keeps the upper 8 of 16 bits, Pillow clips values at 255, and both
    drop an alpha channel. The check compares values, so it works for every
    loader.

    Args:
        dataset: The training dataset, or one that wraps others.

    Raises:
        ValueError: Images are loaded almost black or white, unlike their
            files, or their content is in the alpha channel, which is dropped.
    """
    for part, pipelines in iter_pipelines(dataset):
        name = type(part).__name__
        steps = [s for p in pipelines for s in getattr(p, 'transforms', [p])]
        paths, stored, loaded = [], [], []
        for path, values, image in iter_stored_and_loaded(part, steps):
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


def check_alpha(
    stored: List[np.ndarray], loaded: List[np.ndarray], name: str
) -> None:
    """Refuse images whose content is only in the alpha channel.

    Raises:
        ValueError: Most files with an alpha channel are loaded in one color.
    """
    pairs = [(s, i) for s, i in zip(stored, loaded) if s.shape[2:] == (4,)]
    empty = sum(np.ptp(i) == 0 and np.ptp(s[..., 3]) > 0 for s, i in pairs)
    if empty > len(pairs) / 2:
        raise ValueError(
            f'expected images of more than one color from {name}, got one '
            f'color in {empty} of {len(pairs)} files, whose content is in the '
            'alpha channel, which the loader drops; paste them on a '
            'background'
        )


def check_range(stored: np.ndarray, loaded: np.ndarray, name: str) -> None:
    """Refuse a loader that makes images almost black or white.

    Other losses of levels, such as by a window of intensities, may be
    intended and are logged.

    Args:
        stored: Values in the files, of more than 8 bits.
        loaded: Values that the loader returns, in [0, 255].
        name: Name of the dataset, for the error message.

    Raises:
        ValueError: Most levels are lost in dark or bright images, or more than
            5 % of the values are clipped at 255.
    """
    if not stored.size or not loaded.size:
        return
    low = min(0.0, float(stored.min()))
    # Ignore a few outliers, such as burned-in markers.
    high = np.percentile(stored, 99.9)
    darkest, brightest = np.percentile(loaded, (0.1, 99.9))
    scaled = (stored - low) * (255 / max(high - low, 1e-12))
    scaled = np.clip(scaled, 0, 255).astype(np.uint8)
    kept, levels = len(np.unique(loaded)), len(np.unique(scaled))
    clipped = float((stored > 255).mean())
    percents = np.arange(101)
    is_clipped = np.allclose(
        np.percentile(np.clip(stored, 0, 255), percents),
        np.percentile(loaded, percents),
        atol=1,
    )
    advice = 'replace the loader by a transform that scales them'
    if stored.dtype == np.uint16 and high / 256 > DARK:
        advice = 'set imdecode_backend="cv2"'
    limit = 2 ** int(np.ceil(np.log2(max(high, 0) + 1))) - 1
    text = (
        f'expected images in [0, 255] from the loader of {name}, got values '
        f'in [{darkest:.5g}, {brightest:.5g}] from {stored.dtype} files with '
        f'values up to {high:.5g}: it {{}}; convert the files to 8 bits '
        f'(value * 255 / {limit}), or {advice}'
    )
    if is_clipped and clipped > MAX_CLIPPED:
        raise ValueError(text.format(f'clips {clipped:.0%} of them at 255'))
    if (brightest < DARK or darkest > BRIGHT) and kept < MIN_KEPT * levels:
        raise ValueError(text.format(f'keeps {kept} of {levels} levels'))
    used, usable = count_effective(loaded), count_effective(scaled)
    if used < MIN_EFFECTIVE * usable:
        print_log(
            text.format(f'uses about {used:.0f} of {usable:.0f} levels'),
            logger='current',
            level=logging.WARNING,
        )


def count_effective(values: np.ndarray) -> float:
    """Return the effective number of levels: the perplexity of the values.

    It is the number of distinct values if all are equally frequent.
    """
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def sample(values: np.ndarray) -> np.ndarray:
    """Return finite values, at most ``NUM_VALUES`` and evenly spaced."""
    flat = values.reshape(-1)
    flat = flat[:: math.ceil(len(flat) / NUM_VALUES)]
    return flat[np.isfinite(flat)]


def _colors(values: np.ndarray) -> np.ndarray:
    """Return an image without its alpha channel."""
    return values[..., :3] if values.shape[2:] == (4,) else values
