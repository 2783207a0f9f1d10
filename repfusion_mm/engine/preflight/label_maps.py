"""Check that label maps lie on their images."""

from __future__ import annotations

import copy
import os.path as osp
from typing import Any, Callable, List, Sequence

import numpy as np
from mmengine.logging import print_log

from repfusion_mm.datasets.wrappers import iter_pipelines
from repfusion_mm.engine.preflight.stored_images import load, spread
from repfusion_mm.models.utils.labels import read_map
from repfusion_mm.utils.seeding import seeded

#: Label maps of each dataset that are loaded, and the largest ratio of the
#: proportions of an image and its label map, which may be smaller.
NUM_MAPS, MAX_RATIO = 8, 1.05
#: How often a marked image passes the pipeline, the least correlation of its
#: pixels with its label map, and the largest share of draws with less.
NUM_DRAWS, MIN_CORRELATION, MAX_SHARE = 12, 0.5, 0.25
#: Blocks of a marked image. Flips and rotations do not resemble it.
BLOCKS = np.random.default_rng(2044).integers(0, 2, (6, 6))


def check_label_maps(dataset: Any) -> None:
    """Refuse label maps that do not lie on their images.

    A photograph may have an EXIF orientation, by which it is rotated when it
    is loaded, but not its label map. Transforms of another project may move
    the image only.

    Raises:
        ValueError: A local image and its label map differ in proportions, or
            the pipeline moves the image and not the label map.
    """
    for part, pipelines in iter_pipelines(dataset):
        steps = [s for p in pipelines for s in getattr(p, 'transforms', [p])]
        infos = [part.get_data_info(i) for i in spread(len(part), NUM_MAPS)]
        infos = [i for i in infos if osp.isfile(str(i.get('seg_map_path')))]
        marked = None
        for info in infos:
            try:
                loaded = load(info, steps, 'img', 'gt_seg_map')
            except Exception as error:  # of any loader; labels come later
                _log_skipped(info, error)
                continue
            if {'img', 'gt_seg_map'} <= loaded.keys():
                check_proportions(loaded)
                # The decoder refuses label maps in color.
                marked = info if loaded['gt_seg_map'].ndim == 2 else marked
        if marked:
            try:
                correlations = mark(marked, steps)
            except Exception as error:  # of any transform
                _log_skipped(marked, error)
                continue
            check_correlations(correlations, type(part).__name__)


def check_proportions(loaded: dict) -> None:
    """Refuse a label map of other proportions than its image."""
    height, width = loaded['img'].shape[:2]
    rows, columns = loaded['gt_seg_map'].shape[:2]
    if _is_similar(height * columns, width * rows):
        return
    advice = 'correct the files'
    if _is_similar(width * columns, height * rows):
        advice = (
            'if the image has an EXIF orientation, rotate the label map, or '
            "load images with color_type='color_ignore_orientation'"
        )
    raise ValueError(
        'expected label maps with the proportions of their images, got '
        f'{rows} x {columns} for an image of {height} x {width} '
        f'({loaded.get("img_path")}): {advice}'
    )


def mark(info: dict, steps: Sequence[Callable]) -> List[float]:
    """Return how well a label map lies on its image after a pipeline.

    After loading, random blocks of the image become white and get class 1;
    the others become black and get class 0. If the other steps move both, the
    correlation of the two is near 1 or -1 for any change of colors, otherwise
    near 0.

    Returns:
        The absolute correlation of each draw in which both are visible.
    """
    correlations = []
    for draw in range(NUM_DRAWS):
        marked: Any = copy.deepcopy(info)
        is_marked = False
        with seeded(draw):
            for step in steps:
                marked = step(marked)
                if marked is None:  # the dataset would draw another image
                    break
                if not is_marked and {'img', 'gt_seg_map'} <= marked.keys():
                    is_marked = True
                    for key, value in (('img', 255), ('gt_seg_map', 1)):
                        shape, dtype = marked[key].shape, marked[key].dtype
                        blocks = _resize(BLOCKS * value, shape[:2])
                        if len(shape) == 3:
                            blocks = np.stack([blocks] * shape[2], -1)
                        marked[key] = blocks.astype(dtype)
        sample: Any = (marked or {}).get('data_samples')
        if not is_marked or not hasattr(sample, 'gt_sem_seg'):
            continue
        image = np.asarray(marked['inputs'], float).mean(0)
        labels = np.asarray(read_map(sample))[0]
        labels = _resize(labels, image.shape)
        known = labels <= 1  # not the padding
        pair = np.stack([image[known], labels[known]])
        if pair.size and min(pair.std(1)) > 0:
            correlations.append(abs(np.corrcoef(pair)[0, 1]))
    return correlations


def check_correlations(correlations: Sequence[float], name: str) -> None:
    """Refuse a pipeline that moves images without their label maps."""
    wrong = sum(c < MIN_CORRELATION for c in correlations)
    if wrong > MAX_SHARE * len(correlations):
        raise ValueError(
            f'expected a pipeline of {name} that moves label maps with their '
            f'images, got {wrong} of {len(correlations)} draws in which they '
            'differ; crop, flip, rotate and resize images by the transforms '
            'of mmseg, after LoadAnnotations'
        )


def _resize(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize by nearest neighbors."""
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(shape, array.shape)
    )
    return array[rows][:, columns]


def _is_similar(one: int, other: int) -> bool:
    return one <= MAX_RATIO * other and other <= MAX_RATIO * one


def _log_skipped(info: dict, error: Exception) -> None:
    print_log(
        f'positions of the label map not checked ({info["seg_map_path"]}: '
        f'{type(error).__name__}: {error})',
        logger='current',
    )
